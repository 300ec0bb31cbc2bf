// Writes the code that V8 makes of a script: `node OPTIONS scripts/code-cache.mjs SCRIPT TARGET`. V8 writes a hash of its options into it and takes it
// under the same only, so this is a process of its own, started with those of the launcher.
import { readFileSync, writeFileSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { Script } from 'node:vm'

const [, , path, target] = process.argv
setFlagsFromString('--no-lazy')
const script = new Script(readFileSync(path, 'latin1'), { filename: path })
setFlagsFromString('--lazy')
writeFileSync(target, script.createCachedData())
