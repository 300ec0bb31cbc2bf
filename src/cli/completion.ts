/** `tsnet completion`: what a shell has to know to complete commands, options, namespaces and ids. */
import type { CommandModule } from 'yargs'
import { PLUGIN_TYPES } from '../plugins/types.ts'
import { DEFAULT_FOLDER, definedNames } from '../runtime/definition-folder.ts'
import { networkNames } from '../runtime/network-definition.ts'
import { AGENT_ACTIONS } from './agent.ts'
import { listAttachments } from './attachments.ts'
import { CNI_ACTIONS } from './cni.ts'
import { IPAM_ACTIONS } from './ipam.ts'
import { namespaceNames } from './namespace.ts'
import { HOOK_ACTIONS } from './oci-hook.ts'
import type { Arguments } from './options.ts'
import { PORT_ACTIONS } from './port.ts'
import type { Shell } from './shell.ts'
import { usageError } from './usage-error.ts'

/** The word by which the scripts ask for completions; what follows is the command line up to the cursor. */
export const COMPLETE = '--complete'

const BASH = `# tsnet completion for bash. Put into ~/.bashrc: source <(tsnet completion bash)
_tsnet() {
  local words=("\${COMP_WORDS[@]:1:COMP_CWORD}")
  mapfile -t COMPREPLY < <(tsnet ${COMPLETE} "\${words[@]}" 2>/dev/null)
}
complete -o default -F _tsnet tsnet
`

const ZSH = `#compdef tsnet
# tsnet completion for zsh. Put into ~/.zshrc, after compinit: source <(tsnet completion zsh)
_tsnet() {
  local -a found
  found=("\${(@f)$(tsnet ${COMPLETE} "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "\${found[*]}" ]]; then compadd -- "\${found[@]}"; else _files; fi
}
if [[ "\${zsh_eval_context[-1]}" == loadautofunc ]]; then _tsnet "$@"; else compdef _tsnet tsnet; fi
`

const SCRIPTS: Readonly<Record<string, string>> = { bash: BASH, zsh: ZSH }

/** What each command takes beside its options. */
const OPERANDS: Readonly<
  Record<
    string,
    readonly ('namespace' | 'container' | 'action' | 'ipam-action' | 'agent-action' | 'cni-action' | 'network' | 'hook-action' | 'shell')[]
  >
> = {
  attach: ['namespace'],
  detach: ['container'],
  inspect: ['container'],
  check: ['container'],
  port: ['action', 'container'],
  ipam: ['ipam-action'],
  agent: ['agent-action'],
  cni: ['cni-action', 'network', 'namespace'],
  'oci-hook': ['hook-action'],
  completion: ['shell'],
}

const OPTIONS: Readonly<Record<string, readonly string[]>> = {
  attach: ['--publish', '--allow', '--network', '--ip', '--mac', '--ifname', '--id', '--guard', '--json', '--help'],
  detach: ['--network', '--ifname', '--id', '--json', '--help'],
  ls: ['--network', '--json', '--help'],
  inspect: ['--json', '--help'],
  check: ['--json', '--help'],
  port: ['--publish', '--allow', '--network', '--ifname', '--json', '--help'],
  repair: ['--network', '--dry-run', '--watch', '--every', '--json', '--help'],
  gc: ['--network', '--json', '--help'],
  ipam: ['--repair', '--network', '--json', '--help'],
  agent: ['--idle-exit', '--verbose', '--json', '--help'],
  cni: ['--ifname', '--id', '--all', '--json', '--help'],
  install: ['--bin-dir', '--as', '--network', '--conf-dir', '--force', '--json', '--help'],
  'oci-hook': ['--help'],
  uninstall: ['--bin-dir', '--force', '--json', '--help'],
  completion: ['--help'],
}

const VALUED = [
  '--publish',
  '-p',
  '--allow',
  '--network',
  '--ip',
  '--mac',
  '--ifname',
  '--id',
  '--every',
  '--idle-exit',
  '--bin-dir',
  '--conf-dir',
  '--as',
]

export function completionCommand(shell: Shell): CommandModule {
  return {
    command: 'completion [shell]',
    describe: 'Print a script that teaches your shell to complete tsnet',
    builder: (yargs) =>
      yargs.positional('shell', { type: 'string', describe: 'bash or zsh [default: yours, by $SHELL]' }).example([
        ['source <(tsnet completion bash)', 'Into ~/.bashrc'],
        ['source <(tsnet completion zsh)', 'Into ~/.zshrc'],
      ]),
    handler: (args: Arguments) => {
      const wanted = args['shell'] === undefined ? (shell.env['SHELL']?.endsWith('zsh') ? 'zsh' : 'bash') : String(args['shell'])
      const script = Object.hasOwn(SCRIPTS, wanted) ? SCRIPTS[wanted] : undefined
      if (script === undefined) throw usageError(`Cannot complete in ${JSON.stringify(wanted)}: there is no script for this shell`, 'Say bash or zsh')
      shell.print(script)
    },
  }
}

/**
 * @param words The command line without its first word; the last, maybe empty, is to be completed.
 * @returns What may stand there, one a line. Nothing when only a file or a free text can.
 */
export function complete(words: readonly string[], shell: Shell): readonly string[] {
  const current = words.at(-1) ?? ''
  return candidates(words.slice(0, -1), current, shell).filter((word) => word.startsWith(current))
}

function candidates(before: readonly string[], current: string, shell: Shell): readonly string[] {
  const [command] = before
  if (command === undefined) return [...Object.keys(OPTIONS), '--help', '--version']
  const previous = before.at(-1) ?? ''
  if (previous === '--network') return networkNames(shell.env['NETCONFPATH'] || DEFAULT_FOLDER)
  if (previous === '--as') return ['all', ...PLUGIN_TYPES]
  if (VALUED.includes(previous)) return []
  if (current.startsWith('-')) return Object.hasOwn(OPTIONS, command) ? (OPTIONS[command] ?? []) : []
  const given = before.slice(1).filter((word, i, rest) => !word.startsWith('-') && !VALUED.includes(rest[i - 1] ?? ''))
  switch (Object.hasOwn(OPERANDS, command) ? OPERANDS[command]?.[given.length] : undefined) {
    case 'namespace':
      return namespaceNames()
    case 'container':
      return [...new Set([...namespaceNames(), ...listAttachments(shell.openContext().state).map(({ owner }) => owner.containerID)])]
    case 'action':
      return PORT_ACTIONS
    case 'ipam-action':
      return IPAM_ACTIONS
    case 'agent-action':
      return AGENT_ACTIONS
    case 'cni-action':
      return CNI_ACTIONS
    case 'hook-action':
      return HOOK_ACTIONS
    case 'network':
      return definedNames(shell.env['NETCONFPATH'] || DEFAULT_FOLDER)
    case 'shell':
      return Object.keys(SCRIPTS)
    default:
      return []
  }
}
