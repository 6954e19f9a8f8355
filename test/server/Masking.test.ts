import { assert, describe, it } from "@effect/vitest"
import type { Schema } from "effect"
import * as FastCheck from "fast-check"
import * as Masking from "../../src/server/Masking.ts"

const secretKeys = [
  "password",
  "userPassword",
  "PASSWORD_2",
  "passwd",
  "db_pwd",
  "passphrase",
  "secret",
  "clientSecret",
  "AWS_SECRET_ACCESS_KEY",
  "token",
  "access-token",
  "accesstoken",
  "refreshToken",
  "tokens",
  "api key",
  "apiKey",
  "API_KEY",
  "X-Api-Key",
  "APIKey",
  "Authorization",
  "proxy-authorization",
  "cookie",
  "Set-Cookie",
  "credential",
  "credentials",
  "privateKey",
  "private_key_pem",
  "jwt",
  "accessToken2",
  "token1",
  "TOKEN_1",
  "jwt2",
  "myjwt",
  "pwd1",
  "mysqlpwd",
  "jwts",
  "token_of_ada",
  "apiKey2",
  "pass",
  "pw",
  "creds"
]
const openKeys = [
  "tokenizer",
  "keyboard",
  "monkey",
  "passenger",
  "compass",
  "author",
  "key",
  "publicKey",
  "primary_key",
  "text"
]

const secret = "s3cr3t"

// A value in which every text is the secret, below keys that are none.
const value = FastCheck.letrec<{ readonly value: Schema.Json }>((tie) => ({
  value: FastCheck.oneof(
    { maxDepth: 4 },
    FastCheck.constantFrom<Schema.Json>(secret, 1, true, null),
    FastCheck.array(tie("value"), { maxLength: 3 }),
    FastCheck.dictionary(FastCheck.constantFrom(...openKeys), tie("value"), { maxKeys: 3 })
  )
})).value

describe("masking", () => {
  it("hides every text below a key that looks secret, at any depth, and nothing else", () => {
    FastCheck.assert(
      FastCheck.property(
        value,
        FastCheck.constantFrom(...secretKeys),
        FastCheck.array(FastCheck.oneof(FastCheck.constantFrom(...openKeys), FastCheck.constant(0)), { maxLength: 4 }),
        (below, key, path) => {
          const wrap = (inner: Schema.Json) =>
            path.reduceRight<Schema.Json>(
              (inner, step) => step === 0 ? [inner] : { [step]: inner, other: "open" },
              inner
            )
          const masked = Masking.masked(wrap({ [key]: below }))
          const text = JSON.stringify(masked)
          assert.notInclude(text, secret)
          // the shape, the numbers and what is beside it stay
          assert.deepStrictEqual(JSON.parse(text.replaceAll(Masking.mask, secret)), wrap({ [key]: below }))
          assert.deepStrictEqual(Masking.masked(below), below)
        }
      )
    )
  })

  it("tells such keys from those that only look like it", () => {
    for (const key of secretKeys) assert.isTrue(Masking.isSecret(key), key)
    for (const key of openKeys) assert.isFalse(Masking.isSecret(key), key)
  })

  it("ends 200 deep", () => {
    const nested = (depth: number): Schema.Json => JSON.parse(`${"[".repeat(depth)}1${"]".repeat(depth)}`)
    assert.deepStrictEqual(Masking.masked(nested(200)), nested(200))
    assert.strictEqual(JSON.stringify(Masking.masked(nested(100_000))), `${"[".repeat(200)}"…"${"]".repeat(200)}`)
  })

  it("leaves numbers and booleans", () => {
    const usage = { maxOutputTokens: 500, totalTokens: 7, token: true, secret: null }
    assert.deepStrictEqual(Masking.masked(usage), usage)
    assert.deepStrictEqual(Masking.masked({ tokens: ["a", 1] }), { tokens: [Masking.mask, 1] })
    assert.deepStrictEqual(
      Masking.masked(JSON.parse(`{"__proto__": {"password": "p"}}`)),
      JSON.parse(`{"__proto__": {"password": "${Masking.mask}"}}`)
    )
  })
})
