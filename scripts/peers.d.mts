export function peersPython(): string
