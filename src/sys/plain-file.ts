/** Writing where others may have put a link. */
import { closeSync, constants, openSync, rmSync, writeFileSync } from 'node:fs'
import { isErrno } from '../error.ts'

const { O_WRONLY, O_CREAT, O_TRUNC, O_NOFOLLOW } = constants

/** Writes a file, readable by its owner alone; a symbolic link of its name is replaced, since it may lead to any file of the host. */
export function writePlainFile(path: string, text: string): void {
  const fd = openPlain(path)
  try {
    writeFileSync(fd, text)
  } finally {
    closeSync(fd)
  }
}

function openPlain(path: string): number {
  const open = () => openSync(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0o600)
  try {
    return open()
  } catch (error) {
    if (!isErrno(error, 'ELOOP')) throw error
    rmSync(path)
    return open()
  }
}
