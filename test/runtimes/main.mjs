/** Runs the checks of each runtime that is here, one after the other; see run.sh for where this runs. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { conclude, detachAll, PLUGIN, RECORDER, RECORDING_PLUGIN, section, skip, tryRun } from './check.mjs'
import { cri, ctr, startContainerd } from './containerd.mjs'
import { makeImage } from './image.mjs'
import { libcni } from './libcni.mjs'
import { ociHook } from './oci-hook.mjs'
import { podman } from './podman.mjs'

const PROGRAMS = {
  podman: ['podman', 'runc'],
  ctr: ['containerd', 'ctr', 'runc'],
  cri: ['containerd', 'ctr', 'runc'],
  libcni: ['go'],
  hook: ['runc'],
}

const NETWORK = (name, more) => ({ cniVersion: '1.0.0', name, plugins: [{ ...PLUGIN, ...more }] })

const wanted = process.argv.slice(2)
const missing = (runtime) => PROGRAMS[runtime].filter((program) => tryRun(['sh', '-c', `command -v ${program}`]).status !== 0)

async function suite(runtime, act) {
  if (wanted.length > 0 && !wanted.includes(runtime)) return
  section(runtime)
  const lacking = missing(runtime)
  if (lacking.length > 0) return skip(runtime, `not installed: ${lacking.join(', ')}`)
  await act()
  detachAll()
}

mkdirSync('/etc/cni/net.d', { recursive: true })
const dualStack = { ipam: { ranges: [[{ subnet: '10.60.0.0/24' }], [{ subnet: 'fd00:60::/64' }]] } }
const networks = [NETWORK('web'), NETWORK('back'), NETWORK('dual', dualStack)]
for (const [i, network] of networks.entries()) writeFileSync(`/etc/cni/net.d/${i + 1}0-${network.name}.conflist`, JSON.stringify(network))
mkdirSync(RECORDER)
writeFileSync(`${RECORDER}/tsnet`, RECORDING_PLUGIN, { mode: 0o755 })
const image = makeImage()

await suite('podman', () => podman(image))
let containerd
const withContainerd = async (act) => {
  containerd ??= await startContainerd(image)
  if (containerd !== undefined) await act(containerd)
}
await suite('ctr', () => withContainerd(ctr))
await suite('cri', () => withContainerd(cri))
await containerd?.stop()
await suite('libcni', libcni)
await suite('hook', ociHook)
process.exit(conclude())
