import { DUAL_STACK, hostTest } from './host.ts'
import { skipsWithout } from './kernel-feature.ts'
import { checkMatrix } from './matrix-measure.ts'

hostTest(`who reaches a published port of SCTP, and whom the server hears (${DUAL_STACK.backend})`, async (host, t) => {
  if (skipsWithout('SCTP', host, t)) return
  await checkMatrix(host, t, ['sctp'])
})
