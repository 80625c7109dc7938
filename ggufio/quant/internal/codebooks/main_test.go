package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/ggufplan/ggufplan/ggufio/gguftest/llamacpp"
)

func TestCodebooksAreTheLibrarys(t *testing.T) {
	want := source(llamacpp.Load(t))
	got, err := os.ReadFile("../../codebooks.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("codebooks.go is not what this command writes: run it again")
	}
}
