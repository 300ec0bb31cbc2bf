/** docs/compatibility.md names the same deliberate differences as the tests that compare with the reference plugins. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { test } from 'node:test'

interface Row {
  readonly name: string
  readonly tests: readonly string[]
}

const SUFFIX = '.test.ts'
const DIFFERENTIAL = /^differential-/

/** The rows of `| plugin | difference | why | test |`. */
function rowsOf(text: string): readonly Row[] {
  const cells = [...text.matchAll(/^\| (.*) \|$/gm)].map(([, line = '']) => line.split(' | '))
  return cells
    .filter((row) => row.length === 4 && row[0] !== 'plugin')
    .map(([plugin, difference, , tests = '']) => ({ name: `${plugin}: ${difference}`, tests: tests.split(', ') }))
}

/** @returns The names of the `Difference`s in a source: `name` beside `without`, or the name that a helper makes one of. */
function differencesIn(source: string): readonly string[] {
  const quoted = source.matchAll(/(?:name: |without\(|differing\()(?:'([^']+)'|"([^"]+)"),\s*(?:without:|\/)/g)
  return [...quoted].map(([, single, double]) => single ?? double ?? '')
}

const byName = (one: string, other: string) => (one < other ? -1 : 1)
const rows = rowsOf(readFileSync('docs/compatibility.md', 'utf8'))
const files = ['src', 'test'].flatMap((folder) => readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((path) => join(folder, path)))
const tests = files.filter((path) => path.endsWith(SUFFIX))

test('docs/compatibility.md names every difference that a differential test allows for, with that test, and no other', () => {
  const allowed = tests
    .filter((path) => DIFFERENTIAL.test(basename(path)))
    .flatMap((path) => differencesIn(readFileSync(path, 'utf8')).map((name) => `${name} (${basename(path, SUFFIX)})`))
  const named = rows.flatMap((row) => row.tests.filter((name) => DIFFERENTIAL.test(name)).map((name) => `${row.name} (${name})`))
  assert.ok(allowed.length > 20)
  assert.deepEqual(named.sort(byName), [...new Set(allowed)].sort(byName))
})

test('docs/compatibility.md names tests that exist, and each difference once, sorted by plugin', () => {
  const known = new Set(tests.map((path) => basename(path, SUFFIX)))
  assert.deepEqual(
    rows.flatMap((row) => row.tests).filter((name) => !known.has(name)),
    [],
  )
  const names = rows.map(({ name }) => name)
  assert.equal(new Set(names).size, names.length)
  const plugins = names.map((name) => name.slice(0, name.indexOf(':')))
  assert.deepEqual(plugins, [...plugins].sort(byName))
})
