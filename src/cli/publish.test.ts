import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parsePortMappings } from '../cni/port-mapping.ts'
import { TsnetError } from '../error.ts'
import { parsePublish } from './publish.ts'

const accepted: readonly (readonly [string, object])[] = [
  ['8080:80', { hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
  ['8080:80/tcp', { hostPort: 8080, containerPort: 80, protocol: 'tcp' }],
  ['5353:53/udp', { hostPort: 5353, containerPort: 53, protocol: 'udp' }],
  ['5353:53/UDP', { hostPort: 5353, containerPort: 53, protocol: 'udp' }],
  ['36412:36412/sctp', { hostPort: 36412, containerPort: 36412, protocol: 'sctp' }],
  ['127.0.0.1:8080:80', { hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' }],
  ['[::1]:8080:80', { hostPort: 8080, containerPort: 80, protocol: 'tcp', hostIP: '::1' }],
  ['[::]:8000-8010:9000-9010/udp', { hostPort: 8000, containerPort: 9000, protocol: 'udp', hostIP: '::', range: 11 }],
  ['8000-8000:9000', { hostPort: 8000, containerPort: 9000, protocol: 'tcp' }],
  ['80', { hostPort: 0, containerPort: 80, protocol: 'tcp' }],
  [':80', { hostPort: 0, containerPort: 80, protocol: 'tcp' }],
  ['0:80/udp', { hostPort: 0, containerPort: 80, protocol: 'udp' }],
  ['127.0.0.1::80', { hostPort: 0, containerPort: 80, protocol: 'tcp', hostIP: '127.0.0.1' }],
  ['[::1]::80', { hostPort: 0, containerPort: 80, protocol: 'tcp', hostIP: '::1' }],
  ['9000-9010', { hostPort: 0, containerPort: 9000, protocol: 'tcp', range: 11 }],
  ['1-65535:1-65535', { hostPort: 1, containerPort: 1, protocol: 'tcp', range: 65535 }],
]

for (const [text, mapping] of accepted) {
  test(`parsePublish() reads ${text}, as the plugin does`, () => {
    assert.deepEqual(parsePublish(text), mapping)
    assert.equal(parsePortMappings({ portMappings: [parsePublish(text)] }).length, 1)
  })
}

const refused: readonly (readonly [text: string, message: RegExp, hint: RegExp])[] = [
  ['', /names no container port/, /The form is/],
  ['web', /"web" is no port/, /The form is/],
  ['8080:', /names no container port/, /The form is/],
  ['0-5:80-85', /host port 0 is out of range/, /1 to 65535/],
  ['0', /container port 0 is out of range/, /1 to 65535/],
  ['127.0.0.1:80', /"127.0.0.1" is no port/, /The form is/],
  ['8080:0', /container port 0 is out of range/, /1 to 65535/],
  ['70000:80', /host port 70000 is out of range/, /1 to 65535/],
  ['8080:70000', /container port 70000 is out of range/, /1 to 65535/],
  ['8080:http', /"http" is no port/, /The form is/],
  ['8080:-1', /"-1" is no port/, /The form is/],
  ['8080:80/icmp', /"icmp" is no protocol/, /tcp, udp and sctp/],
  ['8080:80/', /"" is no protocol/, /tcp, udp and sctp/],
  ['8000-8010:9000', /11 ports of the host cannot lead to 1 /, /8000-8010:9000-9010/],
  ['8000:9000-9010', /1 port of the host cannot lead to 11 /, /8000:9000/],
  ['1-100:65500-65510', /100 ports .* 11/, /same length/],
  ['8010-8000:9010-9000', /ends before it begins/, /8000-8010/],
  ['::1:8080:80', /too many colons/, /in brackets, for example \[::1\]:8080:80/],
  ['[::1]:8080', /not complete/, /The form is/],
  ['[127.0.0.1]:8080:80', /no IPv6 address/, /Only an IPv6 address/],
  ['[::1%lo]:8080:80', /no IPv6 address/, /Only an IPv6 address/],
  ['localhost:8080:80', /"localhost" is no IP address/, /The form is/],
  ['300.0.0.1:8080:80', /"300.0.0.1" is no IP address/, /The form is/],
]

for (const [text, message, hint] of refused) {
  test(`parsePublish() refuses ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => parsePublish(text),
      (error) => error instanceof TsnetError && error.code === 'TSNET_USAGE' && message.test(error.message) && hint.test(error.hint ?? ''),
    )
  })
}
