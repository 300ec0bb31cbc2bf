import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { chooseHostPort, parsePortList } from './port-choice.ts'

const never = () => false

test('parsePortList() reads what the kernel writes', () => {
  assert.deepEqual(parsePortList(''), [])
  assert.deepEqual(parsePortList('8080,9100-9200'), [
    { first: 8080, last: 8080 },
    { first: 9100, last: 9200 },
  ])
})

test('chooseHostPort() begins where it is told, and comes back to the ports before', () => {
  const choice = { first: 100, last: 109, isReserved: never }
  const search = { choice, count: 1, isClaimed: never, firstTaken: () => undefined }
  assert.equal(chooseHostPort({ ...search, start: 0 }), 100)
  assert.equal(chooseHostPort({ ...search, start: 0.5 }), 105)
  assert.equal(chooseHostPort({ ...search, start: 0.5, isClaimed: (port) => port >= 103 }), 100)
})

test('chooseHostPort() asks processes only for what nobody else has', () => {
  const asked: number[] = []
  const choice = { first: 100, last: 109, isReserved: (port: number) => port % 2 === 0 }
  const firstTaken = (port: number) => {
    asked.push(port)
    return port === 101 ? port : undefined
  }
  assert.equal(chooseHostPort({ choice, count: 1, start: 0, isClaimed: (port) => port === 103, firstTaken }), 105)
  assert.deepEqual(asked, [101, 105])
})

test('chooseHostPort() finds a free run exactly when there is one', () => {
  const kinds = fc.array(fc.constantFrom('free', 'free', 'free', 'reserved', 'claimed', 'taken'), { minLength: 1, maxLength: 24 })
  fc.assert(
    fc.property(kinds, fc.integer({ min: 1, max: 6 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (ports, count, start) => {
      const first = 1000
      const is = (port: number, kind: string) => ports[port - first] === kind
      const choice = { first, last: first + ports.length - 1, isReserved: (port: number) => is(port, 'reserved') }
      const firstTaken = (from: number) => Array.from({ length: count }, (_, i) => from + i).find((port) => is(port, 'taken'))
      const chosen = chooseHostPort({ choice, count, start, isClaimed: (port) => is(port, 'claimed'), firstTaken })
      const isFree = (from: number) => Array.from({ length: count }, (_, i) => from + i).every((port) => is(port, 'free'))
      if (chosen === undefined) assert.ok(ports.every((_, i) => !isFree(first + i)))
      else assert.ok(isFree(chosen))
    }),
    { numRuns: 500 },
  )
})
