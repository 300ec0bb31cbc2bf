// Writes the code that V8 makes of a bundle: `node OPTIONS scripts/code-cache.mjs BUNDLE TARGET [REHEARSAL]`. V8 writes a hash of its options into it and
// takes it under the same only, so this is a process of its own, started with those of the launcher. With the name of a rehearsal, its calls are done for real
// in this process's namespaces, which are to be thrown away; then the code is that of the functions which they ran. Without, it is that of all functions.
import { execFileSync } from 'node:child_process'
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { Script } from 'node:vm'
import { REHEARSALS } from './rehearsals.mjs'

const CONTAINER = '/run/container'
const INPUT = '/run/input'
const OUTPUT = '/run/output'
const [, , path, target, rehearsal] = process.argv
const source = readFileSync(path, 'latin1')

try {
  writeFileSync(target, (rehearsal === undefined ? compileAll() : rehearse(REHEARSALS[rehearsal])).createCachedData())
  process.exit(0)
} catch (error) {
  console.error(error.message)
  process.exit(1)
}

function compileAll() {
  setFlagsFromString('--no-lazy')
  const script = new Script(source, { filename: path })
  setFlagsFromString('--lazy')
  return script
}

/** Each plugin of a chain gets the result of the one before. */
function rehearse(calls) {
  const script = new Script(source, { filename: path })
  writeFileSync(CONTAINER, '')
  execFileSync('unshare', [`--net=${CONTAINER}`, 'true'])
  let prevResult
  for (const { type, command, config } of calls) {
    const env = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: 'rehearsal',
      CNI_NETNS: CONTAINER,
      CNI_IFNAME: 'eth0',
      CNI_PATH: '/none',
    }
    const output = call(script, type, { ...env, PATH: process.env.PATH }, { ...config, type, prevResult })
    if (command === 'ADD') prevResult = JSON.parse(output)
  }
  return script
}

/** @returns What the call wrote to standard output. */
function call(script, type, env, config) {
  writeFileSync(INPUT, JSON.stringify(config))
  reopen(0, INPUT, 'r')
  reopen(1, OUTPUT, 'w')
  let status
  const { dlopen } = process
  process.env = env
  process.argv[2] = type
  process.dlopen = (module, ...rest) => {
    dlopen.call(process, module, ...rest)
    module.exports = withoutExit(module.exports, (value) => {
      status = value
    })
  }
  try {
    script.runInThisContext()({}, createRequire(path), { exports: {} }, path, dirname(path))
  } catch (error) {
    // That is how a call ends whose process does not.
    if (status === undefined) throw error
  } finally {
    process.dlopen = dlopen
  }
  const output = readFileSync(OUTPUT, 'utf8')
  if (status !== 0) throw new Error(output)
  return output
}

function withoutExit(koffi, exit) {
  const load = (...args) => {
    const library = koffi.load(...args)
    return { func: (prototype) => (prototype.startsWith('void _exit(') ? exit : library.func(prototype)) }
  }
  return Object.assign(Object.create(koffi), { load })
}

function reopen(fd, path, flags) {
  closeSync(fd)
  if (openSync(path, flags) !== fd) throw new Error(`Another file than ${fd} was free`)
}
