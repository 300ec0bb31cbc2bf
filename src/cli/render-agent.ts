/** What the agent says of itself, for people and for programs. */
import type { AgentStatus } from '../agent/status.ts'
import { formatFields, type Style } from './style.ts'

const MIB = 1 << 20

export function formatAgentStatus(style: Style, status: AgentStatus, json: boolean): string {
  if (json) return `${JSON.stringify(status, undefined, 2)}\n`
  const requests = Object.entries(status.requests).filter(([, count]) => count > 0)
  return formatFields(style, [
    ['Process', [String(status.pid)]],
    ['Build', [status.build]],
    ['Up', [`${status.uptimeSeconds} s, since ${status.started}`]],
    ['Requests', [requests.length === 0 ? 'none' : requests.map(([command, count]) => `${command} ${count}`).join(', ')]],
    ['Failed', [String(status.failed)]],
    ['Left to one shot', [String(status.declined)]],
    ['Memory', [`${(status.residentBytes / MIB).toFixed(1)} MiB resident`]],
    ['State', [status.stateFolder]],
  ])
}
