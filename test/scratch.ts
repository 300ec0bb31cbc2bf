/** Where tests write files that nobody keeps. */
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'

/** In memory, as the state folder is by default: on a disk each lease waits for the disk. */
export const SCRATCH_FOLDER = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
