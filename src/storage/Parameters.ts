/**
 * Array parameters with exact types: the driver would guess them from the elements, and cannot for an empty array.
 *
 * @since 0.1.0
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Result from "effect/Result"

/**
 * @category constructors
 * @since 0.1.0
 */
export const array = (values: ReadonlyArray<unknown>, elementOid: number): PgTypes.Parameter =>
  Result.getOrThrow(PgTypes.array(values, elementOid))

/**
 * @category constructors
 * @since 0.1.0
 */
export const text = (values: ReadonlyArray<string | null>): PgTypes.Parameter => array(values, PgTypes.OID.text)

/**
 * @category constructors
 * @since 0.1.0
 */
export const int4 = (values: ReadonlyArray<number | null>): PgTypes.Parameter => array(values, PgTypes.OID.int4)

/**
 * @category constructors
 * @since 0.1.0
 */
export const int8 = (values: ReadonlyArray<bigint | null>): PgTypes.Parameter => array(values, PgTypes.OID.int8)

/**
 * @category constructors
 * @since 0.1.0
 */
export const float8 = (values: ReadonlyArray<number | null>): PgTypes.Parameter => array(values, PgTypes.OID.float8)

/**
 * @category constructors
 * @since 0.1.0
 */
export const bool = (values: ReadonlyArray<boolean>): PgTypes.Parameter => array(values, PgTypes.OID.bool)
