/** What the agent has to say, one line each: for people, or as JSON. */

/** Facts of an event; their order is kept. */
export type Facts = Readonly<Record<string, string | number | boolean | undefined>>

export interface Log {
  /** What an operator wants to know of a day. */
  info(event: string, facts?: Facts): void
  /** What somebody should look at. */
  warn(event: string, facts?: Facts): void
  /** Every request. */
  detail(event: string, facts?: Facts): void
}

export interface LogOptions {
  readonly json: boolean
  /** Whether details are written too. */
  readonly verbose: boolean
}

/** @param write Takes a whole line. @param program What the lines for people begin with. */
export function openLog({ json, verbose }: LogOptions, write: (line: string) => void, program = 'tsnet agent'): Log {
  const format = json ? formatJson : (level: string, event: string, facts: Facts) => `${program}: ${formatText(level, event, facts)}`
  const at =
    (level: string) =>
    (event: string, facts: Facts = {}) =>
      write(format(level, event, facts))
  return { info: at('info'), warn: at('warn'), detail: verbose ? at('detail') : () => {} }
}

function formatJson(level: string, event: string, facts: Facts): string {
  return `${JSON.stringify({ time: new Date().toISOString(), level, event, ...facts })}\n`
}

/** A caller's control characters must not reach a terminal or begin a line of their own. */
function formatText(level: string, event: string, facts: Facts): string {
  const words = Object.entries(facts).flatMap(([key, value]) =>
    value === undefined ? [] : [`${key}=${typeof value === 'string' ? quoted(value) : value}`],
  )
  return `${level === 'warn' ? 'warning: ' : ''}${[event, ...words].join(' ')}\n`
}

function quoted(text: string): string {
  return /^[\w./:@-]+$/.test(text) ? text : JSON.stringify(text)
}
