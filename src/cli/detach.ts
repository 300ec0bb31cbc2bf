/** `tsnet detach`: a DEL of the plugin for everything that is attached to what a person names. */
import type { CommandModule } from 'yargs'
import { Attempts } from '../plan/detach.ts'
import { detachContainer } from '../runtime/attachment.ts'
import { type Attachment, findAttachments, listAttachments, narrow, nothingAttached } from './attachments.ts'
import { type Arguments, flag, name, requireCapabilities, withContainer, withJson, withNetwork } from './options.ts'
import { formatDetached } from './render-attachment.ts'
import type { Shell } from './shell.ts'

export function detachCommand(shell: Shell): CommandModule {
  return {
    command: 'detach <container>',
    describe: 'Take away what attach, or a container runtime, gave a namespace',
    builder: (yargs) =>
      withJson(withNetwork(withContainer(yargs), 'Detach from this network only'), 'Print the records of what was detached')
        .option('ifname', { type: 'string', requiresArg: true, describe: 'Detach this interface only' })
        .option('id', { type: 'string', requiresArg: true, describe: 'Detach what was attached with this id only' })
        .example([
          ['$0 detach web', 'Remove all interfaces that tsnet gave /run/netns/web'],
          ['$0 detach web --network backend', 'Leave one network'],
          ['$0 detach pid-3452', 'By container id, also after the namespace is gone'],
        ]),
    handler: (args) => detach(args, shell),
  }
}

function detach(args: Arguments, shell: Shell): void {
  const narrowing = { network: name(args, 'network'), ifname: name(args, 'ifname'), id: name(args, 'id') }
  requireCapabilities(shell, 'detach')
  const context = shell.openContext()
  const all = listAttachments(context.state)
  const wanted = String(args['container'])
  const found = narrow(findAttachments(all, wanted, shell.cwd), narrowing)
  if (found.length === 0) throw nothingAttached('detach', wanted, all)
  const errors = new Attempts()
  const detached: Attachment[] = []
  for (const attachment of found) {
    errors.try(() => {
      detachContainer(attachment.owner, attachment.record?.netns.path ?? '', context)
      detached.push(attachment)
    })
  }
  shell.print(
    flag(args, 'json')
      ? `${JSON.stringify(
          detached.map(({ owner, record }) => record ?? owner),
          undefined,
          2,
        )}\n`
      : formatDetached(shell.style, detached),
  )
  errors.finish(`Cannot detach ${found.length - detached.length} of ${found.length}`)
}
