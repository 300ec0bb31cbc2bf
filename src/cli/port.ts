/** `tsnet port`: which ports a running container publishes, and changes of them. */
import type { Argv, CommandModule } from 'yargs'
import { quote } from '../cni/json.ts'
import { type PortMapping, parsePortMappings } from '../cni/port-mapping.ts'
import { TsnetError } from '../error.ts'
import type { PlanContext } from '../plan/attach.ts'
import { publishPorts, withdrawPorts } from '../plan/publish.ts'
import type { RecordedPort } from '../plan/record.ts'
import { withTimeLimit } from '../sys/time-limit.ts'
import { formatAddress } from '../wire/ip-address.ts'
import { type Attachment, findAttachments, listAttachments, narrow, nothingAttached } from './attachments.ts'
import { type Arguments, flag, name, requireCapabilities, requireReadable, texts, withContainer, withJson, withNetwork } from './options.ts'
import { ALLOW, type PublishedMapping, parsePublished } from './publish.ts'
import { type ChangedPorts, formatChangedPorts, formatPorts } from './render-ports.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

/** What comes after `tsnet port`. */
export const PORT_ACTIONS = ['add', 'rm', 'ls'] as const

export function portCommand(shell: Shell): CommandModule {
  return {
    command: 'port <action> <container>',
    describe: 'Publish more ports of a running container, withdraw or list them',
    builder: (yargs) => options(yargs),
    handler: (args) => port(args, shell),
  }
}

function options(yargs: Argv): Argv {
  const positional = yargs.positional('action', { type: 'string', demandOption: true, describe: 'add, rm or ls' }) as unknown as Argv
  return withJson(withNetwork(withContainer(positional), 'Its attachment to this network'), 'Print a list of attachments with their ports')
    .option('publish', {
      alias: 'p',
      type: 'string',
      array: true,
      nargs: 1,
      describe: 'The port: [hostIP:][hostPort:]containerPort[/tcp|udp|sctp]; may be repeated',
    })
    .option('allow', { type: 'string', array: true, nargs: 1, describe: ALLOW })
    .option('ifname', { type: 'string', requiresArg: true, describe: 'Its attachment with this interface' })
    .example([
      ['$0 port add web -p 8443:443', 'Publish one more port'],
      ['$0 port add web -p 9000', 'Port 9000 on a host port that is free'],
      ['$0 port add web -p 5432 --allow 192.0.2.0/24', 'For these clients alone'],
      ['$0 port rm web -p 8443:443', 'Withdraw it; what -p leaves away fits everything'],
      ['$0 port ls web', 'See what is published'],
    ])
}

function port(args: Arguments, shell: Shell): void {
  const action = PORT_ACTIONS.find((known) => known === args['action'])
  if (action === undefined) throw usageError(`Cannot ${quote(args['action'])} ports: there is no such action`, 'Say tsnet port add, rm or ls')
  const narrowing = { network: name(args, 'network'), ifname: name(args, 'ifname') }
  const named = texts(args, 'publish')
  const wishes = parsePublished(args).map((published, i) => ({ text: named[i] ?? '', mapping: readMapping(published) }))
  if (action === 'ls' && wishes.length > 0) throw usageError('Cannot use -p with tsnet port ls', 'It shows all ports')
  if (action !== 'ls' && wishes.length === 0)
    throw usageError(`Cannot ${action} ports: none is named`, `For example tsnet port ${action} web -p 8443:443`)
  if (action !== 'add' && texts(args, 'allow').length > 0)
    throw usageError(`Cannot use --allow with tsnet port ${action}`, 'It says who may connect to a new port')
  if (action !== 'ls') requireCapabilities(shell, `port ${action}`)
  const context = shell.openContext()
  requireReadable(context.state.root, 'show the ports of')
  const all = listAttachments(context.state)
  const wanted = String(args['container'])
  const found = narrow(findAttachments(all, wanted, shell.cwd), narrowing)
  if (found.length === 0) throw nothingAttached('find the ports of', wanted, all)
  const mappings = wishes.map(({ mapping }) => mapping)
  if (action === 'ls') return shell.print(formatPorts(shell.style, found, flag(args, 'json')))
  const changed = action === 'add' ? [add(theOnly(found, wanted), mappings, context)] : remove(found, wishes, context)
  shell.print(formatChangedPorts(changed, flag(args, 'json')))
}

function readMapping(published: PublishedMapping): PortMapping {
  const [mapping] = parsePortMappings({ portMappings: [published] })
  if (mapping === undefined) throw new TypeError(`No mapping came of ${JSON.stringify(published)}`)
  return mapping
}

function add({ owner }: Attachment, mappings: readonly PortMapping[], context: PlanContext): ChangedPorts {
  return { owner, ports: withTimeLimit(context.timeLimitMs, () => publishPorts(owner, mappings, context)) }
}

/** @throws TsnetError TSNET_USAGE, before anything is withdrawn, for a port that none of them publishes */
function remove(
  found: readonly Attachment[],
  wishes: readonly { text: string; mapping: PortMapping }[],
  context: PlanContext,
): readonly ChangedPorts[] {
  const published = found.flatMap(({ record }) => record?.ports ?? [])
  const stray = wishes.find(({ mapping }) => !published.some((one) => fits(one, mapping)))
  if (stray !== undefined) {
    throw usageError(
      `Cannot withdraw ${quote(stray.text)}: ${quote(found[0]?.owner.containerID)} does not publish it`,
      'tsnet port ls shows what it publishes; a range is withdrawn as a whole',
    )
  }
  const isChosen = (one: RecordedPort) => wishes.some(({ mapping }) => fits(one, mapping))
  const concerned = found.filter(({ record }) => record?.ports.some(isChosen))
  return concerned.map(({ owner }) => ({ owner, ports: withTimeLimit(context.timeLimitMs, () => withdrawPorts(owner, isChosen, context)) }))
}

/** What is left away, the host's port or address, fits everything. */
function fits(one: RecordedPort, { protocol, hostPort, containerPort, count, hostIP }: PortMapping): boolean {
  const family = one.address.includes(':') ? 6 : 4
  const wanted = hostIP === undefined || hostIP.value === 0n ? undefined : formatAddress(hostIP)
  return (
    one.protocol === protocol &&
    one.containerPort === containerPort &&
    one.count === count &&
    (hostPort === 0 || one.hostPort === hostPort) &&
    (hostIP === undefined || (hostIP.family === family && one.hostAddress === wanted))
  )
}

function theOnly(found: readonly Attachment[], wanted: string): Attachment {
  const [first] = found
  if (first !== undefined && found.length === 1) return first
  const names = found.map(({ owner }) => `${owner.ifname} in ${owner.network}`).join(', ')
  throw new TsnetError('TSNET_AMBIGUOUS', `Cannot tell which interface of ${quote(wanted)} shall publish: it has ${names}`, {
    hint: 'Say which with --network or --ifname',
  })
}
