import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { FreeQueue } from './index-files.ts'

test('FreeQueue drops its consumed half, and keeps its place for a reader who does not know of it', () => {
  const base = mkdtempSync(join(tmpdir(), 'tsnet-queue-'))
  const path = join(base, 'free')
  try {
    using queue = FreeQueue.create(
      path,
      Array.from({ length: 10_000 }, (_, i) => ({ line: i, sequence: i + 1 })),
    )
    queue.position = 4_999
    queue.compact()
    assert.equal(statSync(path).size, 16 + 16 * 10_000)
    queue.position = 6_000
    queue.compact()
    assert.equal(statSync(path).size, 16 + 16 * 4_000)
    assert.deepEqual(queue.front(), { line: 6_000, sequence: 6_001 })
    assert.equal(queue.push({ line: 3, sequence: 10_001 }), 10_001)
    // Killed between dropping the entries and writing down the position.
    using stale = new FreeQueue(path, 2_000)
    assert.deepEqual(stale.front(), { line: 6_000, sequence: 6_001 })
    stale.position = 10_000
    assert.deepEqual(stale.front(), { line: 3, sequence: 10_001 })
    stale.position++
    assert.equal(stale.front(), undefined)
  } finally {
    rmSync(base, { recursive: true })
  }
})
