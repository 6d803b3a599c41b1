/** The read half of the seam's contract, through HTTP and a real protocol server over a registry in memory. */

import { serve } from '../protocol/serve.testing.ts';
import { blobContract } from '../registry/blobs.contract.ts';
import { deleteContract } from '../registry/deletes.contract.ts';
import type { OpenStore } from '../registry/fresh.testing.ts';
import { listContract } from '../registry/lists.contract.ts';
import { manifestContract } from '../registry/manifests.contract.ts';
import { memoryRegistry } from '../registry/memory.ts';
import { reading } from './upstream.testing.ts';

/** What is written goes to the memory itself; what is read comes over HTTP. */
async function open(): Promise<OpenStore> {
  const memory = memoryRegistry();
  const served = await serve({ registry: memory });
  const upstream = reading({
    url: `http://127.0.0.1:${served.port}`,
    credentials: { username: 'ann', password: 'x' },
  });
  return {
    store: { ...memory, ...upstream.registry },
    async close() {
      await upstream[Symbol.asyncDispose]();
      await served[Symbol.asyncDispose]();
    },
  };
}

blobContract(open);
manifestContract(open);
deleteContract(open);
listContract(open);
