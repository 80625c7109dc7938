package manifest

// What this version of the program writes.
const (
	FormatVersion    = "1.0"
	GeneratorName    = "ggufplan"
	GeneratorVersion = "0.1.0"
	TargetEngine     = "llama.cpp"
	TargetVersion    = "0.5.0"
)

// New returns a manifest of this version without contents: its lists are
// empty, not nil.
func New() *Manifest {
	return &Manifest{
		FormatVersion: FormatVersion,
		Generator:     Generator{GeneratorName, GeneratorVersion},
		Target:        Target{TargetEngine, TargetVersion},
		Layers:        []Layer{},
		Tensors:       []Tensor{},
		Findings:      []Finding{},
	}
}
