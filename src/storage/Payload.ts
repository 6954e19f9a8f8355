/**
 * Which JSON a claim brings along, and how the rest is read after it. The size of its text is bounded before the server
 * makes it: a number of few bytes can have 147,000 digits, and what is stored can be compressed a hundredfold.
 */
import type { OptionalColumns } from "./Contract.ts"

/** The largest payload a worker takes, in bytes of JSON text. */
export const maxBytes = 16 * 1024 * 1024

// Twice what the table takes. A larger one, of a table without that limit, is left behind.
const maxMetadataBytes = 2 * 1024 * 1024

/** What a claim brings along, in stored bytes. A larger value costs a statement of its own, which it is worth. */
export const inlineBytes = 8192

// Even if all of it were numbers, and each as long as a number can be, these were but a million characters or so.
const harmlessBytes = 128

// What JavaScript could not hold either is long; all else has at most 27 characters for each byte.
const wide = `'strict $.**{last} ? (@ >= 1e309 || @ <= -1e309)'`

const numbers = `'strict $.**{last} ? (@.type() == "number")'`

// In bytes without compression: what `||` returns is not compressed, and with nothing beside it, not copied either.
const size = (column: string) =>
  `pg_column_size(${column} || case jsonb_typeof(${column}) when 'object' then '{}'::jsonb else '[]' end)`

/** Whether a value is brought along by a claim whose parameter `limit` says how many stored bytes may be. */
export const isInline = (column: string, limit: string): string =>
  `pg_column_size(${column}) < least(${limit}, ${harmlessBytes}) or pg_column_size(${column}) < ${limit}
      and not ${column} @? ${wide}
      and (pg_column_compression(${column}) is null or ${size(column)} < ${4 * inlineBytes} and not exists (
        select from jsonb_array_elements(jsonb_path_query_array(${column}, ${numbers})) number
         where scale(number::numeric) > 400))`

// Powers of two, up to the longest that a number can be.
const widths = Array.from({ length: 12 }, (_, index) => 32 << index)

/**
 * Whether the text of a value has at most `max` bytes. It is written out only where that is not plain from the sizes of
 * its parts, and then it has no more than a few times as many.
 */
const fits = (column: string, max: number): string =>
  `(
  select case when raw.size > ${4 * max} or digits.least > ${max} then false
              when 6 * raw.size + digits.most <= ${max} then true
              else octet_length(${column}::text) <= ${max} end
    from (select ${size(column)}::bigint as size) raw cross join lateral (
      select coalesce(sum(width / 2 + scale), 0) as least, coalesce(sum(width + scale), 0) as most
        from (
          select scale(number) as scale,
                 case when abs(number) < 1e16 then 0
                   ${
    widths.map((width) => `when abs(number) < '1e${width}' then ${width}`).join("\n                   ")
  }
                   else ${2 * widths.at(-1)!} end as width
            from (
              select element::numeric as number
                from jsonb_array_elements(jsonb_path_query_array(
                       case when raw.size <= ${4 * max} then ${column} end, ${numbers})) element
              offset 0) numbers) measured) digits)`

/** Reads what the claim of task $1 under epoch $2 by worker $3 has left behind. No row says that it is not its task any more. */
export const read = (s: string, columns: OptionalColumns): string => `
select case when fits is not false then payload::text end as payload, fits is false as oversized, metadata::text
  from (
    select t.payload, ${fits("t.payload", maxBytes)} as fits,
           ${columns.metadata ? `case when ${fits("t.metadata", maxMetadataBytes)} then t.metadata end` : "null::jsonb"}
             as metadata
      from ${s}.tasks t
     where t.id = $1 and t.epoch = $2 and t.locked_by = $3) mine`
