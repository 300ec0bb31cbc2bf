// Bundles bench/ into build/bench/ and runs it: npm run bench [-- --quick] [-- --json FILE] [-- --only CASE] [-- --profile]
import { spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')

await build({
  absWorkingDir: root,
  entryPoints: ['bench/main.ts', 'bench/worker.ts'],
  outdir: 'build/bench',
  outExtension: { '.js': '.cjs' },
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20.19',
  external: ['koffi'],
  define: { TSNET_ADDON_DIR: JSON.stringify('../../dist'), TSNET_ROOT: JSON.stringify(root) },
  logLevel: 'warning',
})

const run = spawn(process.execPath, [join(root, 'build/bench/main.cjs'), ...process.argv.slice(2)], { stdio: 'inherit' })
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => run.kill(signal))
run.on('exit', (status) => process.exit(status ?? 1))
