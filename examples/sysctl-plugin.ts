#!/usr/bin/env node
// A CNI plugin to stand behind others in a list: sets kernel parameters of the container's network namespace, such as
//   { "type": "sysctl", "sysctl": { "net/core/somaxconn": "4096" } }
// Compile it, give the file the name `sysctl` and the right to be executed, and put it into the runtime's folder of plugins.
import { readFileSync, writeFileSync } from 'node:fs'
import { CniError, type CniRequest, pluginMain, previousResult, withinNetns } from 'tsnet'

await pluginMain(
  {
    add: (request) => {
      const previous = previousResult(request.config)
      if (previous === undefined) throw new CniError(7, 'Cannot stand alone: another plugin has to make the interface')
      const wanted = settings(request)
      withinNetns(request.environment.netns, () => {
        for (const [key, value] of wanted) writeFileSync(`/proc/sys/${key}`, value)
      })
      return previous
    },
    // The namespace goes, and the parameters with it.
    del: () => {},
    check: (request) => {
      const wanted = settings(request)
      const wrong = withinNetns(request.environment.netns, () =>
        wanted.find(([key, value]) => readFileSync(`/proc/sys/${key}`, 'utf8').trim() !== value),
      )
      if (wrong !== undefined) throw new CniError(100, `Kernel parameter "${wrong[0]}" is not ${wrong[1]} any more`)
    },
  },
  { about: 'sysctl: kernel parameters for containers', versions: ['0.4.0', '1.0.0', '1.1.0'] },
)

function settings({ config }: CniRequest): readonly (readonly [key: string, value: string])[] {
  const { sysctl } = config.raw
  const entries = Object.entries(typeof sysctl === 'object' && sysctl !== null ? sysctl : {})
  return entries.map(([key, value]) => {
    // Nothing outside the network's own parameters, and no way out of that folder.
    if (!/^net(\/[\w-]+)+$/.test(key)) throw new CniError(7, `Invalid "sysctl": ${JSON.stringify(key)} is no parameter of the network`)
    return [key, String(value)]
  })
}
