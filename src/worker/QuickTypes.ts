/**
 * Which types end within milliseconds, and how many such tasks ended lately: so many may be claimed before there is a
 * slot, because there will be one by the time they arrive.
 *
 * @since 0.1.0
 */

const quickMillis = 5
const streakToBeQuick = 10
const spanMillis = 20
const mostAhead = 100

/**
 * @category models
 * @since 0.1.0
 */
export class QuickTypes {
  /** The types of which the last ten tasks ended within 5 ms each. */
  readonly types: Set<string> = new Set()
  private readonly streaks = new Map<string, number>()
  private spanStart = 0
  private inSpan = 0
  private inLastSpan = 0

  record(type: string, duration: number, now: number): void {
    if (duration > quickMillis) {
      this.streaks.set(type, 0)
      this.types.delete(type)
      return
    }
    const streak = (this.streaks.get(type) ?? 0) + 1
    this.streaks.set(type, streak)
    if (streak < streakToBeQuick) return
    this.types.add(type)
    this.advance(now)
    this.inSpan++
  }

  /** How many tasks of quick types ended in the last 20 ms, at most 100. */
  recent(now: number): number {
    this.advance(now)
    return Math.min(mostAhead, Math.max(this.inSpan, this.inLastSpan))
  }

  private advance(now: number): void {
    const spans = Math.floor((now - this.spanStart) / spanMillis)
    if (spans === 0) return
    this.inLastSpan = spans === 1 ? this.inSpan : 0
    this.inSpan = 0
    this.spanStart = now
  }
}
