/** Which of Debian's two iptables a host has. */
import assert from 'node:assert/strict'
import type { Host } from './host.ts'

/** Switches the host to iptables-legacy, in its own mount namespace alone. @returns false when the kernel has none */
export function useLegacyIptables(host: Host): boolean {
  const works = ['iptables-legacy', 'ip6tables-legacy'].every((tool) => host.run([tool, '-t', 'nat', '-S']).status === 0)
  if (!works) return false
  host.sh(`
    cp -dR /etc/alternatives /run/alternatives
    for tool in iptables ip6tables; do
      for suffix in '' -save -restore; do ln -sfn /usr/sbin/$tool-legacy$suffix /run/alternatives/$tool$suffix; done
    done
    mount --bind /run/alternatives /etc/alternatives`)
  assert.match(host.exec(['/usr/sbin/iptables-restore', '--version']), /legacy/)
  return true
}

/** Takes both variants away, as on a machine where the package is not installed. */
export function removeIptables(host: Host): void {
  host.sh(`
    for multi in xtables-nft-multi xtables-legacy-multi; do
      touch /run/$multi; chmod 644 /run/$multi; mount --bind /run/$multi /usr/sbin/$multi
    done`)
}

export function restoreIptables(host: Host): void {
  host.sh('umount /usr/sbin/xtables-nft-multi /usr/sbin/xtables-legacy-multi')
}
