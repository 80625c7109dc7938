// Package pace foresees how long a job takes: [RoundTrip] and the other costs
// say what its steps take on one core, as a table has them, [Calibrate] how much
// longer this machine does, and a [Clock] corrects both by how the job goes.
package pace
