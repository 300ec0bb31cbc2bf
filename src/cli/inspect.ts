/** `tsnet inspect`: everything about the attachments of one container. */
import type { CommandModule } from 'yargs'
import { withBackend } from '../plan/backend.ts'
import { readNetwork } from '../plan/network.ts'
import { findAttachments, listAttachments, nothingAttached } from './attachments.ts'
import { type Arguments, flag, requireReadable, withContainer, withJson } from './options.ts'
import { formatAttachment } from './render-attachment.ts'
import { jsonOf } from './render-json.ts'
import type { Shell } from './shell.ts'

export function inspectCommand(shell: Shell): CommandModule {
  return {
    command: 'inspect <container>',
    describe: 'Show the addresses, ports and path of packets of one container',
    builder: (yargs) =>
      withJson(withContainer(yargs), 'Print a list of records').example([
        ['$0 inspect web', 'By namespace'],
        ['$0 inspect 4f1c2a9be07d --json', 'By container id, or the beginning of one'],
      ]),
    handler: (args) => inspect(args, shell),
  }
}

function inspect(args: Arguments, shell: Shell): void {
  const context = shell.openContext()
  const { state } = context
  requireReadable(state.root, 'inspect')
  const all = listAttachments(state)
  const wanted = String(args['container'])
  const found = findAttachments(all, wanted, shell.cwd)
  if (found.length === 0) throw nothingAttached('inspect', wanted, all)
  if (flag(args, 'json')) return shell.print(jsonOf(found))
  const texts = found.map((attachment) => {
    const network = readNetwork(state, attachment.owner.network)
    const { backend } = withBackend(context, network?.backend)
    return formatAttachment(shell.style, attachment, { backend: backend.name, masquerade: network?.masquerade === true })
  })
  shell.print(texts.join('\n'))
}
