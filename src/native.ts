// The one place that touches the addon. `../native` lies as near to `src` as to `dist` and `dist-cjs`.
import addon from '../native/load.cjs'

export type {
  Codes,
  FolderLock,
  Job,
  JobEvent,
  KeptFiles,
  Model,
  Spool,
  States,
  StatesPart,
  Statistics,
} from '../native/load.cjs'
export default addon
