import { memoryStorage } from './memory.ts';
import { storageContract } from './storage.contract.ts';

storageContract('memory', async () => ({ storage: memoryStorage(), remove: async () => undefined }));
