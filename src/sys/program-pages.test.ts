import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { libc } from './libc.ts'
import { programRanges, releaseProgramPages } from './program-pages.ts'

const mapping = (head: string, anonymous = 0) => `${head}
Size:                  8 kB
Rss:                   8 kB
Private_Dirty:         ${anonymous} kB
Anonymous:      ${String(anonymous).padStart(8)} kB
THPeligible:           0
VmFlags: rd ex mr mw me sd
`

const SMAPS = [
  mapping('00400000-00402000 r--p 00000000 fe:00 260689                             /usr/bin/node'),
  mapping('00b72000-00b74000 r-xp 00772000 fe:00 260689                             /usr/bin/a program'),
  mapping('0563a000-0563c000 r--p 05239000 fe:00 260689                             /usr/bin/node', 4),
  mapping('0563e000-05640000 rw-p 0523d000 fe:00 260689                             /usr/bin/node'),
  mapping('0565d000-0565f000 r--p 00000000 00:00 0 '),
  mapping('7ffe0000-7ffe2000 r-xp 00000000 00:00 0                                  [vdso]'),
  mapping('7fd476600000-7fd476602000 r--s 014c4000 fe:00 260690                     /usr/lib/gconv/gconv-modules.cache'),
  mapping('7fd476ecc000-7fd476ece000 rwxp 00000000 fe:00 2188143                    /dist/koffi.node'),
].join('')

test('programRanges() names what files alone hold: nothing writable, relocated, shared or anonymous', () => {
  assert.deepEqual(
    programRanges(SMAPS).map(({ address, size }) => [address, size]),
    [
      [0x400000n, 0x2000n],
      [0xb72000n, 0x2000n],
    ],
  )
})

test('releaseProgramPages() gives most of what files occupy back, and everything goes on working', () => {
  const residentKiB = () => Number(/^RssFile:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1])
  const before = residentKiB()
  releaseProgramPages()
  const after = residentKiB()
  assert.ok(after < before / 2, `${before} KiB before, ${after} after`)
  assert.ok(libc.geteuid() >= 0)
  assert.equal(new Intl.NumberFormat('en').format(1e6), '1,000,000')
})
