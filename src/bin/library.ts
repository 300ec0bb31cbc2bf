/** What `import … from 'tsnet'` offers: a CNI plugin's frame, and attachments for programs. docs/library.md says how to use it. */
import { statSync } from 'node:fs'
import { SUPPORTED_VERSIONS } from '../cni/version.ts'
import { isErrno } from '../error.ts'
import type { Attachment, AttachmentName, AttachOptions } from '../library/attachment.ts'
import { attachTo, detachFrom } from '../library/attachments.ts'
import { answerPlugin, type CniPlugin, type PluginOptions } from '../library/plugin-author.ts'
import { DEFAULT_FOLDER } from '../runtime/definition-folder.ts'
import { openNetns, within } from '../sys/netns.ts'
import { openContext } from './context.ts'
import { print, printAbout, readInput } from './standard-streams.ts'

export { type CniArgs, parseCniArgs } from '../cni/cni-args.ts'
export type { CniRequest } from '../cni/exchange.ts'
export type { JsonObject } from '../cni/json.ts'
export type { Environment, RawConfig } from '../cni/request.ts'
export type { Result, ResultDns, ResultInterface, ResultIp, ResultRoute } from '../cni/result.ts'
export { parseValidAttachments, type ValidAttachment } from '../cni/valid-attachments.ts'
export type { CniVersion, Command } from '../cni/version.ts'
export { TsnetError, type TsnetErrorOptions } from '../error.ts'
export type { AttachedPort, Attachment, AttachmentName, AttachOptions } from '../library/attachment.ts'
export { CniError, type CniPlugin, type PluginOptions, previousResult } from '../library/plugin-author.ts'

/**
 * Is a CNI plugin: serves the call that this process was started for, and ends the process. Called by hand, without CNI_COMMAND, it says what it is.
 * Standard output belongs to the protocol; a plugin writes its own remarks to standard error.
 */
export async function pluginMain(plugin: CniPlugin, options: PluginOptions): Promise<never> {
  const { env } = process
  if (!env['CNI_COMMAND']) {
    printAbout(options.about, options.versions ?? SUPPORTED_VERSIONS)
    process.exit(0)
  }
  const { status, output } = await answerPlugin(plugin, options, { env, readInput, isOwnNetns })
  print(output)
  process.exit(status)
}

/**
 * Runs a function with this thread inside another network namespace: sockets that it opens and /proc/sys/net are that one's.
 * @param path The namespace's, such as CNI_NETNS.
 * @param act A synchronous function: one that returns a promise is refused by its type.
 * @throws TsnetError with CNI code 8 when the path does not lead to a network namespace
 */
export function withinNetns<T>(path: string, act: () => T extends PromiseLike<unknown> ? never : T): T {
  using netns = openNetns(path)
  return within(netns, act)
}

/**
 * Gives a network namespace an interface, an address, a way out and published ports: all, or nothing. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
 * TSNET_STATE_DIR and the like count, as for the command. Blocks for some ten milliseconds.
 * @throws TsnetError whose `code` docs/errors.md explains; then nothing is left of it
 */
export function attach(options: AttachOptions): Attachment {
  return attachTo(options, process.env['NETCONFPATH'] || DEFAULT_FOLDER, openContext())
}

/**
 * Takes away what a container has, complete or not. Nothing there is no failure, and the namespace may be gone.
 * @returns What was taken away.
 * @throws TsnetError with all that could not be; another call tries it again
 */
export function detach(wanted: AttachmentName): readonly Required<AttachmentName>[] {
  return detachFrom(wanted, openContext())
}

function isOwnNetns(path: string): boolean {
  try {
    const [own, other] = ['/proc/self/ns/net', path].map((file) => statSync(file)) as [ReturnType<typeof statSync>, ReturnType<typeof statSync>]
    return own?.ino === other?.ino && own?.dev === other?.dev
  } catch (error) {
    // What is wrong with the path is for the plugin to say.
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return false
    throw error
  }
}
