// Package plot draws the result of flannel bench: as one page of HTML that needs no network, with the drawing script in it
// (echarts.common.min.js, Apache ECharts 5.6.0 as its npm package has it, under LICENSE.echarts), and as pictures for
// documents, which are SVG without a script.
package plot
