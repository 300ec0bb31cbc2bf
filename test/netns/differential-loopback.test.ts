import { crossTest, type DifferentialCase, differentialTest } from './differential.ts'

const LOOPBACK: DifferentialCase = {
  name: 'loopback',
  plugins: [{ type: 'loopback' }],
  differences: [
    {
      name: 'loopback: DEL leaves lo up',
      without: (line) =>
        /^(afterDel|afterDelAgain|left)\.container\.(links|addresses|routes)|\.container\.addresses\[lo\]\.flags/.test(line) ? undefined : line,
    },
  ],
}

differentialTest(LOOPBACK)
crossTest({
  ...LOOPBACK,
  differences: [{ name: 'loopback: DEL leaves lo up', without: (line) => (/^left\.container\./.test(line) ? undefined : line) }],
})
