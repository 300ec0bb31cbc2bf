/** `tsnet attach`: an ADD of the plugin for a namespace that a person names. */
import { basename } from 'node:path'
import type { Argv, CommandModule } from 'yargs'
import { parseMac } from '../cni/capabilities.ts'
import { type JsonObject, present, quote } from '../cni/json.ts'
import { checkContainerID } from '../cni/request.ts'
import { TsnetError } from '../error.ts'
import { attachContainer } from '../runtime/attachment.ts'
import { DEFAULT_FOLDER } from '../runtime/definition-folder.ts'
import { DEFAULT_NETWORK, findDefinition } from '../runtime/network-definition.ts'
import { type Attachment, isIn, listAttachments } from './attachments.ts'
import { type Namespace, resolveNamespace } from './namespace.ts'
import { type Arguments, flag, name, requireCapabilities, text, texts, withJson, withNamespace, withNetwork } from './options.ts'
import { ALLOW, parsePublished } from './publish.ts'
import { formatAttached } from './render-attachment.ts'
import { parseRequestedAddresses } from './requested-address.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

/** What a container's interface is called unless somebody says otherwise. */
export const DEFAULT_IFNAME = 'eth0'

export function attachCommand(shell: Shell): CommandModule {
  return {
    command: 'attach <netns>',
    describe: 'Give a network namespace an interface, an address and published ports',
    builder: (yargs) => options(yargs),
    handler: (args) => attach(args, shell),
  }
}

function options(yargs: Argv): Argv {
  return withJson(
    withNetwork(withNamespace(yargs), `Network to attach to, as ${DEFAULT_FOLDER} defines it [default: ${DEFAULT_NETWORK}]`),
    'Print the CNI result, with the published ports beside it',
  )
    .option('publish', {
      alias: 'p',
      type: 'string',
      array: true,
      nargs: 1,
      describe: 'Publish a port: [hostIP:][hostPort:]containerPort[/tcp|udp|sctp]; may be repeated',
    })
    .option('allow', { type: 'string', array: true, nargs: 1, describe: ALLOW })
    .option('ip', { type: 'string', array: true, nargs: 1, describe: 'Ask for this address; may be repeated, for one of each subnet' })
    .option('mac', { type: 'string', requiresArg: true, describe: 'MAC address of the interface' })
    .option('ifname', { type: 'string', requiresArg: true, describe: `Name of the interface in the namespace [default: ${DEFAULT_IFNAME}]` })
    .option('guard', { type: 'boolean', describe: 'Let it send only with its own MAC and IP addresses' })
    .option('id', { type: 'string', requiresArg: true, describe: 'Container id [default: that of the namespace, or its name]' })
    .example([
      ['$0 attach web -p 8080:80', 'Attach /run/netns/web, port 80 as port 8080 of this host'],
      ['$0 attach pid:3452 -p 127.0.0.1:5353:53/udp', 'Attach the namespace of a process, for this host only'],
      ['$0 attach web -p 8000-8010:9000-9010', 'Publish a range'],
      ['$0 attach web -p 80', 'Publish port 80 as a host port that is free'],
      ['$0 attach web -p 8080:80 --allow 192.0.2.0/24', 'Publish it for these clients alone'],
      ['$0 attach web --network backend --ifname eth1', 'A second interface, in another network'],
    ])
}

async function attach(args: Arguments, shell: Shell): Promise<void> {
  const wishes = await parseWishes(args)
  const network = name(args, 'network') ?? DEFAULT_NETWORK
  const ifname = name(args, 'ifname') ?? DEFAULT_IFNAME
  const wantedID = name(args, 'id')
  requireCapabilities(shell, 'attach')
  const context = shell.openContext()
  const namespace = resolveNamespace(String(args['netns']), shell.cwd)
  const definition = findDefinition(network, shell.env['NETCONFPATH'] || DEFAULT_FOLDER)
  const containerID = chooseContainerID(namespace, listAttachments(context.state), wantedID)
  const wish = { containerID, ifname, netns: namespace.path, capabilityArgs: wishes, guard: flag(args, 'guard') }
  const { result, record } = attachContainer(definition, wish, context)
  // A CNI result has no place for host ports, and a caller that left their choice to tsnet wants to know them.
  if (flag(args, 'json') || record === undefined) shell.print(`${JSON.stringify({ ...result, ports: record?.ports ?? [] }, undefined, 2)}\n`)
  else shell.print(formatAttached(shell.style, record))
}

/** @returns The capabilities that the options ask for. */
export async function parseWishes(args: Arguments): Promise<JsonObject> {
  const portMappings = parsePublished(args)
  const ips = await parseRequestedAddresses(texts(args, 'ip'))
  const mac = text(args, 'mac')
  return present({
    portMappings: portMappings.length > 0 ? portMappings : undefined,
    ips: ips.length > 0 ? ips : undefined,
    mac: mac === undefined ? undefined : readMac(mac),
  })
}

function readMac(mac: string): string {
  try {
    return parseMac(mac, '--mac')
  } catch (error) {
    if (!(error instanceof TsnetError)) throw error
    throw usageError(`Cannot use --mac: ${error.message.replace('Invalid "--mac": ', '')}`, 'For example 02:42:0a:d2:00:05')
  }
}

/**
 * A container is called the same in all its networks: what is attached to the namespace already says how.
 * @throws TsnetError TSNET_ID_TAKEN when another namespace that exists has the id
 */
function chooseContainerID(namespace: Namespace, all: readonly Attachment[], wanted: string | undefined): string {
  const own = [...new Set(all.filter((attachment) => isIn(attachment, namespace)).map(({ owner }) => owner.containerID))]
  const id = wanted ?? (own.length === 1 && own[0] !== undefined ? own[0] : defaultID(namespace))
  const other = all.find(
    ({ owner, status, record }) => owner.containerID === id && status !== 'gone' && record !== undefined && record.netns.inode !== namespace.inode,
  )
  if (other === undefined) return id
  throw new TsnetError(
    'TSNET_ID_TAKEN',
    `Cannot attach ${quote(namespace.path)} as ${quote(id)}: the namespace ${quote(other.record?.netns.path)} has this id`,
    {
      cniCode: 4,
      hint: 'Give another id with --id',
    },
  )
}

function defaultID({ kind, name: typed, path, inode }: Namespace): string {
  if (kind === 'process') return `pid-${typed}`
  const id = basename(path)
  try {
    checkContainerID(id)
    // A path under /proc ends in "net" for every process.
    return path.startsWith('/proc/') ? `netns-${inode}` : id
  } catch (error) {
    if (error instanceof TsnetError) return `netns-${inode}`
    throw error
  }
}
