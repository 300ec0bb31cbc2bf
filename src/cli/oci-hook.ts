/** `tsnet oci-hook`: gives a container of plain runc or crun its network, as a hook of its config.json. @see OCI runtime-spec, config.md, "POSIX-platform Hooks" */
import type { CommandModule } from 'yargs'
import { isObject, type JsonObject, quote } from '../cni/json.ts'
import { checkContainerID } from '../cni/request.ts'
import { TsnetError } from '../error.ts'
import { Attempts } from '../plan/detach.ts'
import { attachContainer, detachContainer } from '../runtime/attachment.ts'
import { DEFAULT_FOLDER } from '../runtime/definition-folder.ts'
import { DEFAULT_NETWORK, findDefinition } from '../runtime/network-definition.ts'
import { DEFAULT_IFNAME, parseWishes } from './attach.ts'
import { listAttachments } from './attachments.ts'
import { type Arguments, flag, name, requireCapabilities } from './options.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

/** What comes after `tsnet oci-hook`. */
export const HOOK_ACTIONS = ['attach', 'detach'] as const

/** Annotations: each is an option of `tsnet attach`, of which the first ones may have several values, parted by commas. */
const LISTS = ['publish', 'allow', 'ip']
const SINGLE = ['network', 'ifname', 'mac']
const FLAGS = ['guard']
const PREFIX = 'tsnet.'

interface ContainerState {
  readonly id: string
  readonly status: string
  /** 0 where there is none (any more). */
  readonly pid: number
  readonly annotations: JsonObject
}

export function ociHookCommand(shell: Shell): CommandModule {
  return {
    command: 'oci-hook [action]',
    describe: 'As a hook of runc or crun: attach or detach the container whose state is on standard input',
    builder: (yargs) =>
      yargs.positional('action', { type: 'string', describe: 'attach or detach [default: detach when the container is stopped]' }).example([
        [
          '"createRuntime": [{ "path": "/opt/cni/bin/tsnet", "args": ["tsnet", "oci-hook"] }]',
          'In config.json, under "hooks"; the same as "poststop"',
        ],
        ['"tsnet.network": "web", "tsnet.publish": "8080:80, 5353:53/udp"', 'Under "annotations": options of tsnet attach'],
      ]),
    handler: (args) => hook(args, shell),
  }
}

async function hook(args: Arguments, shell: Shell): Promise<void> {
  const wanted = args['action']
  const action = HOOK_ACTIONS.find((known) => known === wanted)
  if (wanted !== undefined && action === undefined)
    throw usageError(`Cannot ${quote(wanted)} a container: there is no such action`, `Say tsnet oci-hook with ${HOOK_ACTIONS.join(', ')}, or alone`)
  requireCapabilities(shell, 'oci-hook')
  const state = readState(shell.readInput())
  if ((action ?? (state.status === 'stopped' ? 'detach' : 'attach')) === 'attach') await attach(state, shell)
  else detach(state, shell)
}

async function attach({ id, pid, status, annotations }: ContainerState, shell: Shell): Promise<void> {
  if (pid === 0) throw hookError(`Cannot attach the container ${quote(id)}: it is ${status}, and no process of it runs`)
  const options = optionsOf(annotations)
  const wish = {
    containerID: id,
    ifname: name(options, 'ifname') ?? DEFAULT_IFNAME,
    netns: `/proc/${pid}/ns/net`,
    capabilityArgs: await parseWishes(options),
    guard: flag(options, 'guard'),
  }
  const definition = findDefinition(name(options, 'network') ?? DEFAULT_NETWORK, shell.env['NETCONFPATH'] || DEFAULT_FOLDER)
  attachContainer(definition, wish, shell.openContext())
}

/** A runtime calls this also when the container has never been attached. */
function detach({ id }: ContainerState, shell: Shell): void {
  const context = shell.openContext()
  const errors = new Attempts()
  for (const { owner, record } of listAttachments(context.state).filter(({ owner }) => owner.containerID === id))
    errors.try(() => detachContainer(owner, record?.netns.path ?? '', context))
  errors.finish(`Cannot detach all of the container ${quote(id)}`)
}

/** @see OCI runtime-spec, runtime.md, "State" */
function readState(text: string): ContainerState {
  let state: unknown
  try {
    state = JSON.parse(text)
  } catch {}
  if (!isObject(state)) throw hookError('Cannot read the state of a container from standard input: it is no JSON object')
  const { id, status, pid = 0, annotations } = state
  if (typeof id !== 'string' || typeof status !== 'string') throw hookError('Cannot read the state of a container: it has no id or no status')
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid < 0)
    throw hookError(`Cannot read the state of the container ${quote(id)}: its pid is ${quote(pid)}`)
  checkContainerID(id)
  return { id, status, pid, annotations: isObject(annotations) ? annotations : {} }
}

/** A misspelt annotation would silently leave a port closed, or open. */
function optionsOf(annotations: JsonObject): Arguments {
  const own = Object.entries(annotations).filter(([key]) => key.startsWith(PREFIX))
  return Object.fromEntries(
    own.map(([key, value]) => {
      const option = key.slice(PREFIX.length)
      if (typeof value !== 'string') throw hookError(`Cannot use the annotation ${quote(key)}: it is ${quote(value)}, not a text`)
      if (LISTS.includes(option)) return [option, value.split(',').map((part) => part.trim())]
      if (SINGLE.includes(option)) return [option, value.trim()]
      if (FLAGS.includes(option) && (value === 'true' || value === 'false')) return [option, value === 'true']
      if (FLAGS.includes(option)) throw hookError(`Cannot use the annotation ${quote(key)}: ${quote(value)} is not true or false`)
      throw hookError(`Cannot use the annotation ${quote(key)}: there is no such`)
    }),
  )
}

function hookError(message: string): TsnetError {
  const known = [...SINGLE, ...LISTS, ...FLAGS].map((option) => `${PREFIX}${option}`).join(', ')
  return new TsnetError('TSNET_HOOK', message, { cniCode: 4, hint: `It is for the hooks createRuntime and poststop, with the annotations ${known}` })
}
