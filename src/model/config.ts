/** What the model room needs of a config.json. */
export type LlamaConfig = {
  vocabularySize: number
  hiddenSize: number
  intermediateSize: number
  layers: number
  heads: number
  kvHeads: number
  headDim: number
  rmsNormEpsilon: number
  ropeTheta: number
  ropeScaling:
    | null
    | { type: 'linear' | 'dynamic'; factor: number }
    | {
        type: 'llama3'
        factor: number
        lowFreqFactor: number
        highFreqFactor: number
        originalContext: number
      }
  context: number
  tieWordEmbeddings: boolean
}
