/** The limit of node:http: answers fixed bytes by path from a JSON file. `node bare.ts PORT FILE`. */
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';

interface Fixed {
  readonly headers: Readonly<Record<string, string>>;
  /** base64 */
  readonly body: string;
}

const [port, file = ''] = process.argv.slice(2);
const fixed = JSON.parse(readFileSync(file, 'utf8')) as Record<string, Fixed>;
const answers = new Map(
  Object.entries(fixed).map(([path, { headers, body }]) => [path, { headers, body: Buffer.from(body, 'base64') }]),
);
const nothing = { headers: { 'content-length': '0' }, body: Buffer.alloc(0) };

createServer((request, response) => {
  const { headers, body } = answers.get(request.url ?? '') ?? nothing;
  response.writeHead(200, headers);
  response.end(request.method === 'HEAD' ? undefined : body);
}).listen(Number(port), '127.0.0.1');
process.on('SIGTERM', () => process.exit());
