// Stands in place of the theme's script of the same name, which would draw every icon of Font
// Awesome a second time: 1.5 MB. The theme's own icons come with its font and style sheet.
