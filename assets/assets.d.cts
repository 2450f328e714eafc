// loosely typed: the specifications that are passed are JSON
type Json = Record<string, unknown>

interface View {
  toSVG(): Promise<string>
  finalize(): void
}

export function loadVega(): Promise<
  [
    {
      parse(spec: Json): Json
      View: new (runtime: Json, options: { renderer: 'none'; logLevel: number }) => View
      /** Log level. */
      Error: number
    },
    { compile(spec: Json, options: { logger: unknown }): { spec: Json } },
  ]
>

export function loadResvg(): Promise<{
  renderAsync(svg: string, options: Json): Promise<{ asPng(): Uint8Array }>
}>

export const font: string

export function vegaScript(): string
