// Makes package-lock.json independent of the registry that wrote it: no download addresses, and no edges to optional
// platform packages that the registry did not have (npm 11 refuses a lockfile with such edges, npm 10 does not).
// Run after each `npm install`.
import { readFileSync, writeFileSync } from 'node:fs'

const lock = JSON.parse(readFileSync('package-lock.json', 'utf8'))
const has = (from, name) => `node_modules/${name}` in lock.packages || `${from}/node_modules/${name}` in lock.packages
for (const [path, entry] of Object.entries(lock.packages)) {
  delete entry.resolved
  for (const name of Object.keys(entry.optionalDependencies ?? {})) {
    if (!has(path, name)) delete entry.optionalDependencies[name]
  }
}
writeFileSync('package-lock.json', `${JSON.stringify(lock, null, 2)}\n`)
