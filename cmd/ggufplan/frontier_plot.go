package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/ggufplan/ggufplan/planner"
	"github.com/ggufplan/ggufplan/planner/manifest"
	"github.com/ggufplan/ggufplan/planner/review"
	"github.com/ggufplan/ggufplan/planner/review/picture"
)

// frontierChart is a frontier as a chart. Weights are the model's.
func frontierChart(model string, weights uint64, front *planner.Frontier) *review.Chart {
	c := &review.Chart{Model: model, Objective: string(front.Objective), Weights: weights}
	for _, p := range front.Points {
		if p.Fused != nil {
			c.Fused = append(c.Fused, review.ChartPoint{Bytes: p.Fused.FileBytes, Damage: p.Fused.Damage, KLD: p.Fused.PredictedKLD})
		}
		if p.Split != nil {
			c.Split = append(c.Split, review.ChartPoint{Bytes: p.Split.FileBytes, Damage: p.Split.Damage, KLD: p.Split.PredictedKLD})
		}
	}
	for _, b := range front.Baselines {
		if b.Damage != nil {
			c.Types = append(c.Types, review.ChartPoint{Name: b.Name, Bytes: b.FileBytes, Damage: *b.Damage, KLD: b.PredictedKLD})
		}
	}
	return c
}

// maxFrontierBytes bounds what plan --frontier --json writes.
const maxFrontierBytes = 4 << 20

// readFrontier reads what plan --frontier --json wrote.
func (c *call) readFrontier(path string) (*planner.Frontier, error) {
	data, err := c.readWhole(path, maxFrontierBytes)
	if err != nil {
		return nil, err
	}
	var front planner.Frontier
	if err := json.Unmarshal(data, &front); err != nil || len(front.Points) == 0 {
		return nil, hinted(fmt.Errorf("%s: is not what plan --frontier --json writes", inputName(path)), "ggufplan plan model.gguf --stats imatrix.gguf --errors errors.json --frontier 8GiB:24GiB:17 --json > frontier.json")
	}
	if len(front.Points) > maxFrontierSizes || len(front.Baselines) > maxFrontierSizes {
		return nil, fmt.Errorf("%s: more than %d points", inputName(path), maxFrontierSizes)
	}
	for i, p := range front.Points {
		for _, plan := range []*planner.FrontierPlan{p.Fused, p.Split} {
			if plan != nil && plan.Damage < 0 {
				return nil, fmt.Errorf("%s: points[%d]: a damage below 0", inputName(path), i)
			}
		}
	}
	for i, b := range front.Baselines {
		if b.Damage != nil && *b.Damage < 0 {
			return nil, fmt.Errorf("%s: baselines[%d]: a damage below 0", inputName(path), i)
		}
	}
	return &front, nil
}

// ofModel reports whether a frontier, which does not name its model, can be of
// a plan's: the same file types are as large, the header apart.
func ofModel(front *planner.Frontier, plan *manifest.Manifest) bool {
	const header = 64 << 20
	for _, b := range front.Baselines {
		for _, own := range plan.Totals.Baselines {
			if b.Name == own.Name && (b.FileBytes < own.TensorBytes || b.FileBytes-own.TensorBytes > header+own.TensorBytes/100) {
				return false
			}
		}
	}
	return true
}

// drawFrontier draws into a PNG if the name ends so, else an SVG.
func drawFrontier(w io.Writer, name string, chart *review.Chart) error {
	if strings.EqualFold(filepath.Ext(name), ".png") {
		return picture.PNG(w, chart)
	}
	return chart.SVG(w)
}
