/** `tsnet gc`: gives back the addresses, ports and rules of containers whose namespace is gone. */
import type { CommandModule } from 'yargs'
import type { PlanContext } from '../plan/attach.ts'
import { Attempts } from '../plan/detach.ts'
import { detachIfGone, releaseUnrecorded } from '../plan/reclaim.ts'
import { listNetworks, lockNetwork } from '../plan/state-folder.ts'
import { type Attachment, listAttachments, narrow } from './attachments.ts'
import { type Arguments, flag, name, requireCapabilities, withJson, withNetwork } from './options.ts'
import { formatDetached } from './render-attachment.ts'
import { jsonOf } from './render-json.ts'
import type { Shell } from './shell.ts'

export function gcCommand(shell: Shell): CommandModule {
  return {
    command: 'gc',
    describe: 'Detach everything whose namespace is gone',
    builder: (yargs) =>
      withJson(withNetwork(yargs, 'Clean up this network only'), 'Print the records of what was detached').example([
        ['$0 gc', 'After "ip netns del web" without "tsnet detach web"'],
      ]),
    handler: (args) => collect(args, shell),
  }
}

function collect(args: Arguments, shell: Shell): void {
  const network = name(args, 'network')
  requireCapabilities(shell, 'gc')
  const context = shell.openContext()
  const stale = narrow(listAttachments(context.state), { network }).filter(({ status }) => status === 'gone')
  const errors = new Attempts()
  const removed = stale.filter(({ owner }) =>
    errors.try(() => {
      using _lock = lockNetwork(context.state, owner.network)
      return detachIfGone(owner, context)
    }),
  )
  const released = listNetworks(context.state)
    .filter((one) => (network ?? one) === one)
    .flatMap((one) => errors.try(() => releaseLost(one, context)) ?? [])
  if (shell.style.terminal && removed.length + released.length === 0 && !flag(args, 'json')) shell.print('Nothing to clean up\n')
  const json = flag(args, 'json')
  shell.print(json ? jsonOf([...removed, ...released]) : formatDetached(shell.style, [...removed, ...released]))
  errors.finish('Cannot remove everything whose namespace is gone')
}

/** @returns What held a lease and has no record, so that only its name is known. */
function releaseLost(network: string, context: PlanContext): readonly Attachment[] {
  using _lock = lockNetwork(context.state, network)
  return releaseUnrecorded(network, [], context).map(({ owner }) => {
    const [, containerID = owner, ifname = ''] = /^(.*):(.*)$/.exec(owner) ?? []
    return { owner: { network, containerID, ifname }, status: 'gone' }
  })
}
