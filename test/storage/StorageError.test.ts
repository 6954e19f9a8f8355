import { assert, describe, it } from "@effect/vitest"
import { StorageError } from "../../src/storage/StorageError.ts"
import * as Errors from "../../src/storage/StorageError.ts"

const json = "JSON data, line 1: \"…"
const raise = "PL/pgSQL function refuse() line 1 at RAISE"

// as PostgreSQL 18.4 words them
const refusals: ReadonlyArray<readonly [what: string, expected: string, fields: Readonly<Record<string, string>>]> = [
  ["a NUL in JSON", "values", { code: "22P05", where: json, routine: "json_lex_string" }],
  ["JSON that is none", "values", { code: "22P02", where: json, routine: "json_errsave_error" }],
  ["a character that the encoding has not", "values", { code: "22P05", routine: "report_untranslatable_char" }],
  ["bytes that are no character", "values", { code: "22021", routine: "report_invalid_encoding" }],
  ["a number without end", "values", { code: "22003", routine: "set_var_from_str" }],
  ["JSON nested too deep", "values", { code: "54001", routine: "check_stack_depth" }],
  ["a constraint", "values", { code: "23514", constraint: "short", routine: "ExecConstraints" }],
  ["a column that may not be null", "values", { code: "23502", routine: "ExecConstraints" }],
  ["no partition yet", "entry", { code: "23514", routine: "ExecFindPartition" }],
  ["another row with this key", "entry", { code: "23505", constraint: "one", routine: "_bt_check_unique" }],
  ["a policy", "entry", { code: "42501", routine: "ExecWithCheckOptions" }],
  ["a trigger", "entry", { code: "P0001", where: raise, routine: "exec_stmt_raise" }],
  ["a trigger that says 22P05", "entry", { code: "22P05", where: raise, routine: "exec_stmt_raise" }],
  ["a trigger that says 23514", "entry", { code: "23514", constraint: "x", where: raise, routine: "exec_stmt_raise" }],
  ["a trigger with a bug", "entry", { code: "42703", where: raise, routine: "exec_eval_expr" }],
  ["a row that is too big", "entry", { code: "54000", routine: "heap_form_tuple" }],
  ["a right that was taken back", "statement", { code: "42501", routine: "aclcheck_error" }],
  ["a table that is gone", "statement", { code: "42P01", routine: "parserOpenTable" }]
]

describe("what a refusal is about", () => {
  for (const [what, expected, { code, ...fields }] of refusals) {
    it(`${what}: ${expected}`, () => {
      const cause = Object.assign(new Error(what), { code, ...fields })
      const error = new StorageError({ operation: "write", transient: false, sqlState: code!, cause })
      assert.strictEqual(Errors.scope(error), expected)
    })
  }

  it("is told whatever was thrown", () => {
    const error = new StorageError({ operation: "write", transient: false, cause: Object.create(null) })
    assert.strictEqual(error.message, "Could not write: [object Object]")
  })

  it("no answer in time: nothing of its own", () => {
    const error = new StorageError({ operation: "write", transient: true, cause: "no answer in time" })
    assert.strictEqual(Errors.scope(error), "entry")
  })
})
