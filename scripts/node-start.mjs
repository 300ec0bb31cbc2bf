// How node is started for one call: its options, and the compiled code that it takes under these.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const CODE_CACHE = fileURLToPath(new URL('code-cache.mjs', import.meta.url))

/** With these node starts a call sooner, if it knows them (docs/decisions/0016). */
const NODE_OPTIONS = ['--no-rehash-snapshot', '--min-semi-space-size=4', '--no-sparkplug']
export const nodeOptions = spawnSync(process.execPath, [...NODE_OPTIONS, '--eval', '']).status === 0 ? NODE_OPTIONS : []

/** A place to be thrown away; who is not root is it there. */
const NAMESPACES = ['--net', '--mount', '--pid', '--fork', '--mount-proc', ...(process.getuid() === 0 ? [] : ['--map-root-user'])]
const ELSEWHERE = ['unshare', ...NAMESPACES, 'sh', '-c', 'mount -t tmpfs tmpfs /run && exec "$@"', 'sh']

/**
 * Writes the code of a bundle: what the calls of its rehearsal run, or everything where they cannot be made.
 * @param path The bundle.
 * @param name Of the rehearsal.
 */
export function compile(path, target, name) {
  const node = [process.execPath, ...nodeOptions, CODE_CACHE, path, target]
  const rehearsal = run([...ELSEWHERE, ...node, name])
  if (rehearsal.status === 0) return
  const why = (rehearsal.error?.message ?? rehearsal.stderr).trim()
  console.error(`Calls cannot be rehearsed here, so their compiled code holds everything and takes a millisecond longer to load: ${why}`)
  const { status, stderr } = run(node)
  if (status !== 0) throw new Error(`V8 cannot compile ${path}:\n${stderr}`)
}

function run([command, ...args]) {
  return spawnSync(command, args, { encoding: 'utf8' })
}
