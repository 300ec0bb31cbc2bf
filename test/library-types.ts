/** What the compiler must accept of the library's users, and what it must refuse; `npm run types` compiles it against the types as they are shipped. */
import { type Attachment, attach, CniError, type CniPlugin, detach, pluginMain, type Result, type TsnetError, withinNetns } from 'tsnet'

const nothing: Result = { interfaces: [], ips: [], routes: [], dns: {} }

export const plugin: CniPlugin = {
  add: async ({ config, environment }) => ({
    ...nothing,
    interfaces: [{ name: environment.ifname, sandbox: environment.netns, mtu: Number(config.raw['mtu']) }],
  }),
  del: () => {},
}
export const error: TsnetError = new CniError(100, 'No')
export const attached: Attachment = attach({ netns: '/run/netns/web', containerID: 'web', publish: ['8080:80'] })
export const hostPort: number | undefined = attached.ports[0]?.hostPort
export const inode: number = withinNetns('/run/netns/web', () => 1)
export const ends: Promise<never> = pluginMain(plugin, { about: 'a plugin', versions: ['1.1.0'] })
detach({ containerID: 'web' })

// @ts-expect-error A plugin has to delete what it adds.
export const noDel: CniPlugin = { add: () => nothing }
// @ts-expect-error ADD answers a result.
export const noResult: CniPlugin = { add: () => {}, del: () => {} }
// @ts-expect-error A namespace must be named.
attach({ containerID: 'web' })
// @ts-expect-error There is no such version.
pluginMain(plugin, { about: 'a plugin', versions: ['2.0.0'] })
// @ts-expect-error Whoever waits in another namespace would go on in the wrong one.
withinNetns('/run/netns/web', async () => 1)
