import { main } from './sidecar/main.ts';

await main();
