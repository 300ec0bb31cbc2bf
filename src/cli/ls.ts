/** `tsnet ls`: all attachments of the host, by whomever they were made. */
import type { CommandModule } from 'yargs'
import { listAttachments, narrow } from './attachments.ts'
import { type Arguments, flag, name, requireReadable, withJson, withNetwork } from './options.ts'
import { formatList } from './render-attachment.ts'
import { jsonOf } from './render-json.ts'
import type { Shell } from './shell.ts'

export function lsCommand(shell: Shell): CommandModule {
  return {
    command: 'ls',
    aliases: ['list'],
    describe: 'List what is attached',
    builder: (yargs) =>
      withJson(withNetwork(yargs, 'List this network only'), 'Print a list of records').example([
        ['$0 ls', 'A table for a terminal; lines with tabs for a pipe'],
        ['$0 ls --json', 'Everything that is known of each attachment'],
      ]),
    handler: (args) => list(args, shell),
  }
}

function list(args: Arguments, shell: Shell): void {
  const network = name(args, 'network')
  const { state } = shell.openContext()
  requireReadable(state.root, 'list')
  const attachments = narrow(listAttachments(state), { network })
  shell.print(flag(args, 'json') ? jsonOf(attachments) : formatList(shell.style, attachments))
}
