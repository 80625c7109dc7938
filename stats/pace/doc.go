// Package pace foresees how long a job takes: [RoundTrip] and other costs say
// what its steps take on one core, as a table has them, [Timed] what they take on
// this machine, and a [Clock] corrects both by how the job goes.
package pace
