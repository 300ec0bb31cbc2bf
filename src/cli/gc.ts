/** `tsnet gc`: gives back the addresses, ports and rules of containers whose namespace is gone. */
import type { CommandModule } from 'yargs'
import type { PlanContext } from '../plan/attach.ts'
import { Attempts, detach } from '../plan/detach.ts'
import { lockNetwork } from '../plan/state-folder.ts'
import { type Attachment, inspectAttachment, listAttachments, narrow } from './attachments.ts'
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
  const removed = stale.filter((attachment) => errors.try(() => removeIfGone(attachment, context)))
  if (shell.style.terminal && removed.length === 0 && !flag(args, 'json')) shell.print('Nothing to clean up\n')
  shell.print(flag(args, 'json') ? jsonOf(removed) : formatDetached(shell.style, removed))
  errors.finish('Cannot remove everything whose namespace is gone')
}

/** Somebody may have attached a new namespace under the same id since; only under the lock is it sure. */
function removeIfGone({ owner }: Attachment, context: PlanContext): boolean {
  using _lock = lockNetwork(context.state, owner.network)
  return inspectAttachment(context.state, owner).status === 'gone' && detach(owner, { ...context, locked: true })
}
