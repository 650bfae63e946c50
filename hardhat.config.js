// Compiles, tests and fuzzes the Solidity in contracts/. The compiler comes from npm, never from the network.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const compiler = JSON.parse(readFileSync(new URL("./contracts/compiler.json", import.meta.url), "utf8"));
const output = process.env.SUANLI_HARDHAT_OUTPUT ?? "."; // tests build in a folder of their own

export default {
  solidity: {
    version: compiler.version,
    path: fileURLToPath(import.meta.resolve("solc/soljson.js")),
    settings: compiler.settings,
  },
  paths: {
    sources: "./contracts",
    tests: { solidity: "./contracts/test" },
    artifacts: `${output}/artifacts`,
    cache: `${output}/cache`,
  },
  networks: {
    node: { type: "edr-simulated", chainId: 31337, hardfork: "osaka" },
  },
  test: {
    solidity: {
      fuzz: { runs: 1000 },
      invariant: { runs: 64, depth: 64 },
    },
  },
};
