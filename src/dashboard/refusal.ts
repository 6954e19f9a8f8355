/** Why a sign-in was refused, in words. */
export const refusal = (status: number, retryAfter: string | null): string => {
  switch (status) {
    case 401:
      return "This is not the token."
    case 429: {
      const seconds = Number(retryAfter)
      return `Too many wrong tokens came from here: wait ${
        seconds > 0 ? `${seconds} second${seconds === 1 ? "" : "s"}` : "a while"
      }, then try again.`
    }
    default:
      return `The server answered with ${status}.`
  }
}
