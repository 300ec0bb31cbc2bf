/** Why somebody looks whether all is as it should be, as it continues "because". */
export type Cause =
  | 'it started'
  | 'links changed'
  | 'addresses were deleted'
  | 'switches changed'
  | 'rules were deleted'
  | 'legacy rules changed'
  | 'firewalld reloaded'
  | 'firewalld started or stopped'
  | 'the bus answered'
  | 'events were lost'
  | 'time was up'
  | 'the last repair failed'
