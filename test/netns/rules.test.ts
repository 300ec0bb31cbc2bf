/** docs/rules.md is made from the rules themselves; this file makes it, and fails when it differs. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { test } from 'node:test'
import { requireTools } from './machine.ts'
import { rulesDocument, VERSIONS } from './rules-document.ts'

const PATH = 'docs/rules.md'
const ADVICE = `${PATH} is not what the rules are (as ${VERSIONS} print them). If they are meant to be so: TSNET_WRITE_RULES=1 npm run netns -- rules`
const root = process.getuid?.() === 0

test('docs/rules.md shows the rules as they are', { skip: root ? false : 'Network namespaces need root' }, async (t) => {
  requireTools()
  // Other versions print the same rules in other words.
  const here = `nft ${version('nft')}, iptables-nft ${version('iptables')}`
  if (here !== VERSIONS) return t.skip(`${PATH} is as ${VERSIONS} print it, and here are ${here}`)
  const text = await rulesDocument()
  if (process.env['TSNET_WRITE_RULES'] === '1') writeFileSync(PATH, text)
  const written = existsSync(PATH) ? readFileSync(PATH, 'utf8') : ''
  assert.ok(written === text, [ADVICE, ...difference(written, text)].join('\n'))
})

/** @returns What `--version` says, such as 1.8.9. */
function version(program: string): string {
  return /v(\d+(?:\.\d+)+)/.exec(execFileSync(program, ['--version'], { encoding: 'utf8' }))?.[1] ?? 'unknown'
}

/** @returns The lines from the first that differs, of either. */
function difference(written: string, actual: string): readonly string[] {
  const [then, now] = [written.split('\n'), actual.split('\n')]
  const at = now.findIndex((line, i) => line !== then[i])
  const from = at < 0 ? now.length : at
  const some = (lines: readonly string[], sign: string) => lines.slice(from, from + 8).map((line) => `${sign} ${line}`)
  return [`From line ${from + 1}:`, ...some(then, '-'), ...some(now, '+')]
}
