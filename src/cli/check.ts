/** `tsnet check`: the plugin's CHECK for everything that is attached to what a person names. */
import type { CommandModule } from 'yargs'
import { CNI_CODE, describe, TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import { ownerText } from '../plan/owner.ts'
import { findOwnPlugin } from '../plugins/registry.ts'
import { runPlugin } from '../plugins/run.ts'
import { type Attachment, findAttachments, listAttachments, nothingAttached } from './attachments.ts'
import { findNamespace } from './namespace.ts'
import { type Arguments, flag, requireCapabilities, withContainer, withJson } from './options.ts'
import { type Check, formatChecks } from './render-check.ts'
import type { Shell } from './shell.ts'

export function checkCommand(shell: Shell): CommandModule {
  return {
    command: 'check <container>',
    describe: 'Compare the kernel with what was attached',
    builder: (yargs) =>
      withJson(withContainer(yargs), 'Print a list of findings').example([
        ['$0 check web', 'Exit status 1 and what is missing, when something is'],
        ['$0 check web --json', 'The same for programs'],
      ]),
    handler: (args) => check(args, shell),
  }
}

function check(args: Arguments, shell: Shell): void {
  requireCapabilities(shell, 'check')
  const context = shell.openContext()
  const all = listAttachments(context.state)
  const wanted = String(args['container'])
  const found = findAttachments(all, wanted, shell.cwd)
  if (found.length === 0) throw nothingAttached('check', wanted, all)
  const path = findNamespace(wanted, shell.cwd)?.path
  const checks = found.map((attachment) => checkOne(attachment, path, context))
  shell.print(formatChecks(shell.style, checks, flag(args, 'json')))
  const failed = checks.filter(({ problem }) => problem !== undefined)
  if (failed.length === 0) return
  const which = found.length === 1 ? '' : ` (${failed.length} of ${found.length} are not complete)`
  throw new TsnetError('TSNET_CHECK', `${failed[0]?.problem}${which}`, { cniCode: CNI_CODE.checkFailed, hint: 'tsnet repair makes it again' })
}

/** @param path Where the namespace is now, if the person named it so. */
function checkOne(attachment: Attachment, path: string | undefined, context: PlanContext): Check {
  const { owner, record, status } = attachment
  const text = `attachment "${ownerText(owner)}"`
  if (record === undefined) return { attachment, problem: `The record of ${text} cannot be read` }
  if (status === 'gone') return { attachment, problem: `The namespace "${record.netns.path}" of ${text} is gone` }
  const { containerID, ifname } = owner
  const environment = { command: 'CHECK', containerID, netns: path ?? record.netns.path, ifname, path: '', args: '', netnsOverride: false } as const
  try {
    runPlugin(
      {
        entry: 'tsnet',
        find: findOwnPlugin,
        environment,
        input: JSON.stringify({ cniVersion: '1.1.0', name: owner.network, type: 'tsnet', prevResult: {} }),
      },
      context,
    )
    return { attachment }
  } catch (error) {
    if (!(error instanceof TsnetError)) throw error
    return { attachment, problem: [describe(error), error.details].filter((part) => part !== undefined).join('; ') }
  }
}
