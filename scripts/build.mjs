// Builds dist/: one CJS bundle an entry, the koffi addon beside them, and dist/bin/, a folder that serves as CNI_PATH as
// it is: the launcher (native/), or a shell script where there is no C compiler. With --tests it also bundles every test
// file into build/test/.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'
import { compile, nodeOptions } from './node-start.mjs'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const dist = join(root, 'dist')
const require = createRequire(import.meta.url)
const { version } = require('../package.json')

const options = (addonDir) => ({
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20.19',
  outExtension: { '.js': '.cjs' },
  define: { TSNET_ADDON_DIR: JSON.stringify(addonDir), TSNET_VERSION: JSON.stringify(version) },
  logLevel: 'warning',
})

/** yargs asks for import.meta.url, which a CJS bundle lacks, to find texts for people that are built in anyway: it is told of a place where nothing is. */
const withYargs = {
  banner: { js: "const TSNET_YARGS_URL = require('node:url').pathToFileURL(__dirname + '/yargs/lib/platform-shims/esm.mjs').href" },
  define: { 'import.meta.url': 'TSNET_YARGS_URL', 'import.meta.resolve': 'undefined' },
}

const { OWN_TYPES, PLUGIN_TYPES } = await load('src/plugins/types.ts')

mkdirSync(join(dist, 'bin'), { recursive: true })
replace(join(dist, 'koffi.node'), (path) => copyFileSync(addon(), path))
/** What launcher and agent compare: an agent of another build is as good as none. */
const buildID = `${version}-${await buildCached('plugins', 'src/bin/plugins.ts')}`
await buildCached('cni', 'src/bin/cni.ts')
await build({
  ...options('.'),
  entryPoints: { agent: 'src/bin/agent.ts', dhcp: 'src/bin/dhcp.ts' },
  outdir: 'dist',
  minify: true,
  define: { ...options('.').define, TSNET_BUILD: JSON.stringify(buildID) },
})
await build({
  ...options('.'),
  entryPoints: { cli: 'src/bin/cli.ts' },
  outdir: 'dist',
  minify: true,
  external: ['netlink', 'koffi'],
  banner: withYargs.banner,
  define: { ...options('.').define, ...withYargs.define },
})
await build({
  ...options('.'),
  entryPoints: { library: 'src/bin/library.ts' },
  outdir: 'dist',
  format: 'esm',
  outExtension: {},
  banner: { js: 'const __dirname = import.meta.dirname' },
})
declareTypes('bin/library')
const launcher = await buildLauncher()
for (const type of PLUGIN_TYPES) {
  replace(join(dist, 'bin', type), (path) => {
    rmSync(path, { force: true })
    if (launcher === undefined) writeFileSync(path, entry(type), { mode: 0o755 })
    else if (type === PLUGIN_TYPES[0]) copyFileSync(launcher, path)
    else linkSync(join(dist, 'bin', PLUGIN_TYPES[0]), path)
  })
}

if (process.argv.includes('--tests')) {
  rmSync(join(root, 'build', 'test'), { recursive: true, force: true })
  await build({
    ...options('../../dist'),
    entryPoints: testFiles('src')
      .concat(testFiles('test'))
      .map((path) => ({ in: path, out: path.replaceAll('/', '--').replace(/\.ts$/, '') })),
    outdir: 'build/test',
    external: ['netlink', 'koffi', 'fast-check'],
    banner: withYargs.banner,
    define: { ...options('../../dist').define, ...withYargs.define },
    sourcemap: 'inline',
  })
  const { status, stderr } = make('test/native')
  if (status !== 0) console.error(`The tracer was not compiled (${stderr?.trim() ?? 'make is not installed'}): tests that kill tsnet will fail.`)
}

/** Writes to dist/types the declarations of a module, and of those that they refer to. */
function declareTypes(entry) {
  const folder = join(root, 'build', 'types')
  rmSync(folder, { recursive: true, force: true })
  const words =
    '--ignoreConfig --declaration --emitDeclarationOnly --allowImportingTsExtensions --erasableSyntaxOnly --strict --exactOptionalPropertyTypes'
  const flags =
    `${words} --skipLibCheck --target es2023 --lib es2023,esnext.disposable --module esnext --moduleResolution bundler --types node`.split(' ')
  const compiler = join(dirname(require.resolve('typescript/package.json')), 'bin', 'tsc')
  const args = [compiler, ...flags, '--rootDir', join(root, 'src'), '--outDir', folder, join(root, 'src', `${entry}.ts`)]
  const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8', cwd: root })
  if (status !== 0) throw new Error(`The types of the library cannot be declared:\n${stdout}`)
  rmSync(join(dist, 'types'), { recursive: true, force: true })
  const declared = new Set()
  for (const queue = [join(folder, `${entry}.d.ts`)]; queue.length > 0; ) {
    const path = queue.pop()
    if (declared.has(path)) continue
    declared.add(path)
    const text = readFileSync(path, 'utf8').replace(/(from '\.[^']*|import\("\.[^"]*)\.ts(['"])/g, '$1.js$2')
    const target = join(dist, 'types', relative(folder, path))
    mkdirSync(dirname(target), { recursive: true })
    replace(target, (fresh) => writeFileSync(fresh, text))
    for (const [, , name] of text.matchAll(/(from '|import\(")(\.[^'"]*)\.js['"]/g)) queue.push(join(dirname(path), `${name}.d.ts`))
  }
}

/**
 * Compiling and lazily compiling again is a third of a one-shot call, so a bundle goes with the code that V8 made of it. V8
 * compares no more than the length of the source: hence the hash in both names. Code of another version of node or V8 is
 * refused by V8, which then compiles as ever.
 * @returns The hash of the source.
 */
async function buildCached(name, entryPoint) {
  const { outputFiles } = await build({ ...options('.'), entryPoints: { [name]: entryPoint }, outdir: 'dist', minify: true, write: false })
  const source = `(function(exports,require,module,__filename,__dirname){${outputFiles[0].text}\n})`
  const hash = createHash('sha256').update(source).digest('hex').slice(0, 16)
  const stem = `${name}.${hash}`
  replace(join(dist, `${stem}.js`), (path) => writeFileSync(path, source))
  replace(join(dist, `${stem}.code`), (path) => compile(join(dist, `${stem}.js`), path, name))
  replace(join(dist, `${name}.cjs`), (path) => writeFileSync(path, loader(stem)))
  removeFormer(name, stem)
  return hash
}

/** esbuild writes ASCII, and latin1 is what V8 takes without decoding. */
function loader(stem) {
  return `'use strict'
const { readFileSync } = require('node:fs')
const { Script } = require('node:vm')
const filename = __dirname + '/${stem}.js'
let cachedData
try {
  cachedData = readFileSync(__dirname + '/${stem}.code')
} catch {}
new Script(readFileSync(filename, 'latin1'), { filename, cachedData }).runInThisContext()(exports, require, module, filename, __dirname)
`
}

/** A process that has just read the former loader is about to read its bundle: what is younger than a minute stays. */
function removeFormer(name, stem) {
  for (const file of readdirSync(dist)) {
    const former = file.startsWith(`${name}.`) && /\.(js|code)$/.test(file) && !file.startsWith(stem)
    if (former && Date.now() - statSync(join(dist, file)).mtimeMs > 60_000) rmSync(join(dist, file))
  }
}

/** Never writes a file in place: a runtime may be executing the old one. */
function replace(path, write) {
  write(`${path}.new`)
  renameSync(`${path}.new`, path)
}

/** @returns The path of the launcher, or nothing when it cannot be compiled here. */
async function buildLauncher() {
  const folder = join(root, 'build', 'native')
  const config = `/* Made by npm run build; do not edit. */
#define TSNET_NODE ${quoteC(process.execPath)}
#define TSNET_NODE_SIZE ${statSync(process.execPath).size}
#define TSNET_NODE_OPTIONS ${listC(nodeOptions)}
#define TSNET_DIST ${quoteC(dist)}
#define TSNET_BUILD ${quoteC(buildID)}
#define TSNET_OWN_TYPES ${listC(OWN_TYPES)}
#define TSNET_PLUGINS_ONLY ${listC(PLUGIN_TYPES.slice(1))}
#define TSNET_VERSION_DOCUMENT ${quoteC(await versionDocument())}
`
  const path = join(folder, 'config.h')
  mkdirSync(folder, { recursive: true })
  if (!existsSync(path) || readFileSync(path, 'utf8') !== config) writeFileSync(path, config)
  const { status, error, stderr } = make('native')
  if (status === 0) return join(folder, 'launcher')
  const why = error === undefined ? stderr.trim() : 'make is not installed'
  console.error(
    `The launcher was not compiled (${why}). dist/bin/ gets shell scripts instead, which never use an agent; install make and gcc for it.`,
  )
  return undefined
}

/** The inside of a list of C string literals. */
function listC(texts) {
  return texts.map((text) => `${quoteC(text)},`).join(' ')
}

function make(sources) {
  return spawnSync('make', ['-s', '-C', join(root, sources), `OUT=${join(root, 'build', 'native')}`], { encoding: 'utf8' })
}

/** A C string literal. */
function quoteC(text) {
  return `"${Buffer.from(text).reduce((all, byte) => all + (/[\w ./:-]/.test(String.fromCharCode(byte)) ? String.fromCharCode(byte) : `\\${byte.toString(8).padStart(3, '0')}`), '')}"`
}

/** What the command VERSION prints, from the only place that knows. */
async function versionDocument() {
  const { versionDocument } = await load('src/cni/version.ts')
  return `${JSON.stringify(versionDocument())}\n`
}

/** @returns What a module of the program exports. */
async function load(path) {
  const { outputFiles } = await build({ ...options('.'), entryPoints: [path], format: 'esm', write: false })
  return import(`data:text/javascript,${encodeURIComponent(outputFiles[0].text)}`)
}

/** The prebuilt addon of this machine, from koffi's platform package. */
function addon() {
  const musl = process.report.getReport().header.glibcVersionRuntime === undefined
  const folder = dirname(require.resolve(`@koromix/koffi-linux-${process.arch}/package.json`))
  return join(folder, `${musl ? 'musl' : 'linux'}_${process.arch}`, 'koffi.node')
}

/** The text of an entry: it finds node and its bundle where `tsnet install` says, else by absolute path, so it may be copied, linked or bind-mounted anywhere. */
function entry(type) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`
  const cli = type === 'tsnet' ? `[ -n "\${CNI_COMMAND+set}" ] || exec "$node" "$dist/cli.cjs" "$@"\n` : ''
  const daemon = type === 'dhcp' ? `if [ "$1" = daemon ]; then shift; exec "$node" "$dist/dhcp.cjs" "$@"; fi\n` : ''
  return `#!/bin/sh
# tsnet ${version}: CNI plugin${type === 'tsnet' ? ' and command' : ` "${type}"`}. Made by npm run build; do not edit.
unset NODE_OPTIONS NODE_EXTRA_CA_CERTS NODE_PATH
here=\${0%/*} node=${quoted(process.execPath)} dist=${quoted(dist)}
[ ! -x "$here/.tsnet/node" ] || node=$here/.tsnet/node
[ -x "$node" ] || node=node
if [ -r "$here/.tsnet/dist/cni.cjs" ]; then dist=$here/.tsnet/dist; elif [ -r "$here/../cni.cjs" ]; then dist=$here/..; fi
${cli}${daemon}case \${0##*/} in ${OWN_TYPES.join('|')}) bundle=cni ;; *) bundle=plugins ;; esac
set --
[ "$(stat -Lc %s "$node" 2>/dev/null)" != ${statSync(process.execPath).size} ] || set -- ${nodeOptions.join(' ')}
exec "$node" "$@" "$dist/$bundle.cjs" "\${0##*/}"
`
}

function testFiles(folder) {
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => join(folder, name))
    .sort()
}
